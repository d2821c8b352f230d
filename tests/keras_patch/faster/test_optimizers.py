"""The fused optimizer kernels give the same numbers as Keras's update steps."""

from __future__ import annotations

import numpy as np
import pytest

from nano_init.keras_patch.faster import deferred, xla_fusion

pytestmark = pytest.mark.tensorflow

KERNELS = {
    "adam": "ResourceApplyAdam",
    "sgd": "ResourceApplyGradientDescent",
    "sgd_momentum": "ResourceApplyKerasMomentum",
    "rmsprop": "ResourceApplyRMSProp",
    "adadelta": "ResourceApplyAdadelta",
    "adamax": "ResourceApplyAdaMax",
}

OPTIMIZERS = {
    "adam": ("adam", "Adam", {}),
    "adam epsilon": ("adam", "Adam", {"epsilon": 1e-3, "beta_1": 0.5, "beta_2": 0.9}),
    "adam clipnorm": ("adam", "Adam", {"clipnorm": 0.1}),
    "adam clipvalue": ("adam", "Adam", {"clipvalue": 0.01}),
    "adam global_clipnorm": ("adam", "Adam", {"global_clipnorm": 0.1}),
    "adam decay": ("adam", "Adam", {"weight_decay": 0.1}),
    "adam ema": ("adam", "Adam", {"use_ema": True, "ema_overwrite_frequency": 3}),
    "adam accumulation": ("adam", "Adam", {"gradient_accumulation_steps": 2}),
    "adam loss scale": ("adam", "Adam", {"loss_scale_factor": 8.0}),
    "adam amsgrad": ("adam", "Adam", {"amsgrad": True}),
    "adamw": ("adam", "AdamW", {"weight_decay": 0.1}),
    "sgd": ("sgd", "SGD", {}),
    "sgd momentum": ("sgd", "SGD", {"momentum": 0.9}),
    "sgd nesterov": ("sgd", "SGD", {"momentum": 0.9, "nesterov": True}),
    "sgd decay": ("sgd", "SGD", {"momentum": 0.9, "weight_decay": 0.1, "clipnorm": 0.5}),
    "rmsprop": ("rmsprop", "RMSprop", {}),
    "rmsprop momentum": ("rmsprop", "RMSprop", {"momentum": 0.9}),
    "rmsprop centered": ("rmsprop", "RMSprop", {"momentum": 0.9, "centered": True}),
    "adadelta": ("adadelta", "Adadelta", {}),
    "adadelta rho": ("adadelta", "Adadelta", {"rho": 0.5, "epsilon": 1e-3, "clipnorm": 0.5}),
    "adadelta decay": ("adadelta", "Adadelta", {"weight_decay": 0.1, "use_ema": True}),
    "adamax": ("adamax", "Adamax", {}),
    "adamax betas": ("adamax", "Adamax", {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}),
    "adamax accumulation": ("adamax", "Adamax", {"gradient_accumulation_steps": 2}),
}

ISLANDS = {
    "adafactor": ("adafactor", "Adafactor", {}),
    "adafactor own rate": (
        "adafactor",
        "Adafactor",
        {"beta_2_decay": -0.5, "epsilon_1": 1e-3, "clip_threshold": 0.5, "relative_step": False},
    ),
    "adafactor decay": ("adafactor", "Adafactor", {"weight_decay": 0.1, "global_clipnorm": 0.5}),
    "adafactor accumulation": ("adafactor", "Adafactor", {"gradient_accumulation_steps": 2}),
    "adagrad": ("adagrad", "Adagrad", {}),
    "adagrad from zero": ("adagrad", "Adagrad", {"initial_accumulator_value": 0.0}),
    "adagrad decay": ("adagrad", "Adagrad", {"weight_decay": 0.1, "clipnorm": 0.5}),
    "ftrl": ("ftrl", "Ftrl", {}),
    "ftrl strengths": (
        "ftrl",
        "Ftrl",
        {
            "l1_regularization_strength": 0.1,
            "l2_regularization_strength": 0.2,
            "l2_shrinkage_regularization_strength": 0.3,
            "beta": 0.4,
        },
    ),
    "ftrl from zero": ("ftrl", "Ftrl", {"initial_accumulator_value": 0.0, "clipvalue": 0.5}),
    "ftrl power": ("ftrl", "Ftrl", {"learning_rate_power": -0.4}),
    "ftrl average": ("ftrl", "Ftrl", {"use_ema": True, "loss_scale_factor": 8.0}),
    "lamb": ("lamb", "Lamb", {}),
    "lamb betas": ("lamb", "Lamb", {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}),
    "lamb decay": ("lamb", "Lamb", {"weight_decay": 0.1, "clipnorm": 0.5}),
    "lamb accumulation": ("lamb", "Lamb", {"gradient_accumulation_steps": 2, "use_ema": True}),
    "lion": ("lion", "Lion", {}),
    "lion betas": ("lion", "Lion", {"beta_1": 0.5, "beta_2": 0.8, "weight_decay": 0.1}),
    "nadam": ("nadam", "Nadam", {}),
    "nadam betas": ("nadam", "Nadam", {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}),
    "nadam accumulation": ("nadam", "Nadam", {"gradient_accumulation_steps": 2}),
    "rmsprop": ("rmsprop", "RMSprop", {}),
    "rmsprop rho": ("rmsprop", "RMSprop", {"rho": 0.5, "epsilon": 1e-3, "use_ema": True}),
    "rmsprop negative momentum": ("rmsprop", "RMSprop", {"momentum": -0.5}),
}

BY_ISLANDS = ("adafactor", "adagrad", "ftrl", "lamb", "lion", "nadam", "rmsprop")


def _train(name, options, *, way="graph", rate=0.01, steps=10, dtype="float32"):
    """Return weights and optimizer variables after some steps on fixed gradients."""
    import keras
    import tensorflow as tf

    rng = np.random.default_rng(4)
    rate = rate() if callable(rate) else rate
    optimizer = getattr(keras.optimizers, name)(learning_rate=rate, **options)
    shapes = [(3, 4), (4,), ()]
    start = [rng.standard_normal(shape).astype("float32") for shape in shapes]
    variables = [keras.Variable(value) for value in start]
    optimizer.build(variables)

    def step(gradients):
        optimizer.apply([tf.cast(g, dtype) for g in gradients], variables)

    if way != "eager":
        step = tf.function(step, jit_compile=way == "compiled")
    for _ in range(steps):
        step([tf.constant(rng.standard_normal(shape).astype("float32")) for shape in shapes])
    return [np.array(v) for v in [*variables, *optimizer.variables]]


@pytest.mark.parametrize("case", OPTIMIZERS)
def test_ten_steps_with_every_option(only, case, assert_close):
    path, name, options = OPTIMIZERS[case]
    expected = _train(name, options)
    with only(path):
        assert_close(_train(name, options), expected)


@pytest.mark.parametrize("case", ISLANDS)
def test_ten_steps_by_islands_with_every_option(only, case, any_size, assert_close):
    path, name, options = ISLANDS[case]
    expected = _train(name, options)
    with only(path):
        assert_close(_train(name, options), expected)


@pytest.mark.parametrize("case", BY_ISLANDS)
@pytest.mark.parametrize("rate", [0.01, lambda: _schedule()], ids=["constant", "schedule"])
def test_large_weights_are_updated_by_islands_in_fit(only, case, rate, fitted, assert_close):
    """Before they are compiled, the same formula runs as TensorFlow's own ops."""
    path, name, options = ISLANDS[case]
    expected = fitted(name, options, rate)
    with only(path):
        assert_close(fitted(name, options, rate), expected)


@pytest.mark.parametrize("case", BY_ISLANDS)
def test_an_island_is_for_a_large_dense_gradient_in_a_graph(only, case, count_islands):
    import keras
    import tensorflow as tf

    path, name, options = ISLANDS[case]
    sparse = tf.IndexedSlices(tf.ones((1, 100)), tf.constant([1]), tf.constant([100, 100]))
    for size, dtype, gradient, count in (
        (100, "float32", tf.ones((100, 100)), 1),
        (10, "float32", tf.ones((10, 10)), 0),
        (100, "float32", sparse, 0),
        (100, "float64", tf.ones((100, 100), "float64"), 0),
    ):
        with only(path):
            optimizer = getattr(keras.optimizers, name)(**options)
            variable = keras.Variable(tf.zeros((size, size)), dtype=dtype)
            optimizer.build([variable])
            step = lambda: optimizer.apply([gradient], [variable])  # noqa: B023, E731
            assert count_islands(step) == count, gradient


@pytest.mark.parametrize("case", BY_ISLANDS)
def test_islands_widen_narrow_gradients_first(only, case, any_size, assert_close):
    path, name, options = ISLANDS[case]
    expected = _train(name, options, dtype="bfloat16")
    with only(path):
        assert_close(_train(name, options, dtype="bfloat16"), expected)


@pytest.mark.parametrize("case", BY_ISLANDS)
def test_a_gradient_that_is_not_a_number_spreads_as_in_keras(only, case, any_size):
    def step():
        optimizer, variable = getattr(keras.optimizers, name)(**options), keras.Variable(start)
        optimizer.build([variable])
        tf.function(lambda: optimizer.apply([gradient], [variable]))()
        return np.isnan(np.array(variable))

    import keras
    import tensorflow as tf

    path, name, options = ISLANDS[case]
    start = np.random.default_rng(1).standard_normal((4, 3)).astype("float32")
    gradient = tf.constant(np.where(np.eye(4, 3) * start > 0, np.nan, start))
    expected = step()
    with only(path):
        assert np.array_equal(step(), expected)
    assert expected.any()


@pytest.fixture
def any_size(monkeypatch):
    """Let islands update weights of any size."""
    monkeypatch.setattr(xla_fusion, "_FEWEST_ELEMENTS", 1)


@pytest.fixture(params=["kernels", "ops"])
def fitted(request, any_size, monkeypatch):
    """Return a function that gives a model's weights after ten steps of `fit`."""
    before = {"kernels": 0, "ops": 2**62}[request.param]
    monkeypatch.setattr(deferred, "ELEMENTS_BEFORE", before)

    def train(name, options, rate):
        import keras

        keras.utils.set_random_seed(5)
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5), keras.layers.Dense(2)])
        rate = rate() if callable(rate) else rate
        model.compile(getattr(keras.optimizers, name)(learning_rate=rate, **options), "mse")
        rng = np.random.default_rng(3)
        inputs, targets = rng.standard_normal((40, 6)), rng.standard_normal((40, 2))
        model.fit(inputs, targets, 4, shuffle=False, verbose=0)
        return [np.array(weight) for weight in model.trainable_weights]

    return train


@pytest.mark.parametrize("case", ["adamw", "sgd", "sgd nesterov", "rmsprop centered", "adadelta"])
@pytest.mark.parametrize("way", ["eager", "compiled"])
def test_ten_steps_in_every_way_of_running(only, case, way, assert_close):
    path, name, options = OPTIMIZERS[case]
    expected = _train(name, options)
    with only(path):
        assert_close(_train(name, options, way=way), expected)


@pytest.mark.parametrize("case", ["adam", "sgd momentum", "rmsprop momentum", "adamax"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_gradients_are_widened_first(only, case, dtype, assert_close):
    path, name, options = OPTIMIZERS[case]
    expected = _train(name, options, dtype=dtype)
    with only(path):
        assert_close(_train(name, options, dtype=dtype), expected)


def _schedule():
    import keras

    return keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)


@pytest.mark.parametrize("case", ["adam", "sgd", "rmsprop momentum"])
@pytest.mark.parametrize("rate", [_schedule, lambda: lambda: 0.02], ids=["schedule", "callable"])
def test_learning_rates_that_change(only, case, rate, assert_close):
    path, name, options = OPTIMIZERS[case]
    expected = _train(name, options, rate=rate)
    with only(path):
        assert_close(_train(name, options, rate=rate), expected)


def test_a_learning_rate_set_between_steps_is_read(only):
    import keras
    import tensorflow as tf

    with only("sgd"):
        optimizer = keras.optimizers.SGD(0.5)
        variable = keras.Variable(tf.zeros((1,)))
        optimizer.build([variable])
        step = tf.function(lambda: optimizer.apply([tf.ones((1,))], [variable]))
        step()
        optimizer.learning_rate = 0.25
        step()
    assert np.array(variable) == pytest.approx([-0.75])


def _ops(count_ops, optimizer, variable, gradient, kernel):
    optimizer.build([variable])
    return count_ops(kernel, lambda: optimizer.apply([gradient], [variable]))


@pytest.mark.parametrize(
    ("path", "kernel", "name", "options", "count"),
    [
        ("adam", KERNELS["adam"], "Adam", {}, 1),
        ("adam", KERNELS["adam"], "AdamW", {}, 1),
        ("adam", KERNELS["adam"], "Adam", {"amsgrad": True}, 0),
        ("sgd", KERNELS["sgd"], "SGD", {}, 1),
        ("sgd", KERNELS["sgd_momentum"], "SGD", {"momentum": 0.5}, 1),
        ("rmsprop", KERNELS["rmsprop"], "RMSprop", {"momentum": 0.5}, 1),
        ("rmsprop", KERNELS["rmsprop"], "RMSprop", {}, 0),
        ("adadelta", KERNELS["adadelta"], "Adadelta", {}, 1),
        ("adamax", KERNELS["adamax"], "Adamax", {}, 1),
    ],
)
def test_uses_the_kernel_where_it_applies(only, count_ops, path, kernel, name, options, count):
    import keras
    import tensorflow as tf

    with only(path):
        optimizer = getattr(keras.optimizers, name)(**options)
        variable = keras.Variable(tf.zeros((3,)))
        assert _ops(count_ops, optimizer, variable, tf.ones((3,)), kernel) == count


def test_steps_aside_for_float64_and_in_sgd_for_sparse_gradients(only, count_ops):
    import keras
    import tensorflow as tf

    sparse = tf.IndexedSlices(tf.ones((1, 2)), tf.constant([1]), tf.constant([3, 2]))
    cases = [
        ("sgd", "SGD", keras.Variable(tf.zeros((3, 2))), sparse),
        ("sgd", "SGD", keras.Variable(tf.zeros((3,)), dtype="float64"), tf.ones((3,), "float64")),
        ("adam", "Adam", keras.Variable(tf.zeros((3,)), dtype="float64"), tf.ones((3,), "float64")),
    ]
    for path, name, variable, gradient in cases:
        with only(path):
            optimizer = getattr(keras.optimizers, name)()
            assert _ops(count_ops, optimizer, variable, gradient, KERNELS[path]) == 0


@pytest.mark.parametrize("way", ["graph", "eager", "compiled"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_sparse_gradient_equals_the_dense_one_for_adam(only, count_ops, way, dtype, assert_close):
    import keras
    import tensorflow as tf

    def trained(make):
        optimizer, table = keras.optimizers.Adam(0.1), keras.Variable(tf.ones((5, 2)))
        optimizer.build([table])
        step = lambda: optimizer.apply([make()], [table])  # noqa: E731
        run = step if way == "eager" else tf.function(step, jit_compile=way == "compiled")
        for _ in range(3):
            run()
        return [np.array(v) for v in [table, *optimizer.variables]], step

    def sparse():
        values = tf.cast(tf.reshape(tf.range(6.0), (3, 2)), dtype)
        return tf.IndexedSlices(values, tf.constant([3, 1, 3]), tf.constant([5, 2]))

    expected, _ = trained(lambda: tf.convert_to_tensor(sparse()))
    with only("adam"):
        found, step = trained(sparse)
        if way == "graph":
            assert count_ops(KERNELS["adam"], step) == 1
    assert_close(found, expected)


def test_a_gradient_that_adam_broadcasts_equals_keras(only):
    expected = _broadcast_step()
    with only("adam"):
        assert _broadcast_step() == expected


def _broadcast_step():
    import keras
    import tensorflow as tf

    optimizer = keras.optimizers.Adam(0.1)
    variable = keras.Variable(tf.zeros((3,)))
    optimizer.build([variable])
    optimizer.apply([tf.ones((1,))], [variable])
    return np.array(variable).tolist()


def test_a_saved_optimizer_continues_without_the_path(only, tmp_path, assert_close):
    import keras

    def model():
        keras.utils.set_random_seed(3)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile(keras.optimizers.Adam(0.1), "mse")
        return model

    def fit(model):
        model.fit(np.eye(3, dtype="float32"), np.ones((3, 2)), 1, 2, shuffle=False, verbose=0)

    expected = model()
    fit(expected)
    fit(expected)
    path = str(tmp_path / "model.keras")
    with only("adam"):
        first = model()
        fit(first)
        first.save(path)
    loaded = keras.models.load_model(path)
    fit(loaded)
    assert_close(loaded.get_weights(), expected.get_weights())
