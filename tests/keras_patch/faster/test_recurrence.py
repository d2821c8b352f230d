"""LSTM and GRU over all steps at once give the same numbers as Keras's loop.

Tolerances are relative to the largest number of each tensor: 1e-5 in float32, since the sums have
another order. A bfloat16 number has eight bits, so the path and Keras are both compared with the
same layer in float32, and the path must not be farther from it than Keras.
"""

from __future__ import annotations

import numpy as np
import pytest

from nano_init.keras_patch import patch_tensorflow
from nano_init.keras_patch.faster import recurrent_layout

pytestmark = pytest.mark.tensorflow

KINDS = {"lstm": "LSTM", "gru": "GRU"}
MASK = np.array([[False, True, True, False, True], [True] * 5, [False] * 5])


@pytest.fixture(params=KINDS)
def path(request):
    return request.param


def _layer(path, shape=(None, None, 4), units=6, **options):
    import keras

    layer = getattr(keras.layers, KINDS[path])(units, **options)
    layer.build(shape)
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        if "seed" not in weight.path:
            weight.assign(rng.standard_normal(weight.shape) / 2)
    return layer


def _normal(*shape, seed=2):
    return np.random.default_rng(seed).standard_normal(shape, "float32")


def _one_call(path, *, way="graph", shape=(3, 5, 4), started=False, mask=None, **options):
    """Return outputs, states and all gradients of one call."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(3)
    layer = _layer(path, return_state=True, **options)
    count = (2 if path == "lstm" else 1) * started
    states = [tf.constant(_normal(shape[0], 6, seed=seed)) for seed in range(count)]

    def call(inputs, *states):
        with tf.GradientTape() as tape:
            tape.watch([inputs, *states])
            given = {"initial_state": list(states)} if states else {}
            given |= {} if mask is None else {"mask": tf.constant(mask)}
            found = [tf.cast(part, tf.float32) for part in layer(inputs, training=True, **given)]
            score = sum(tf.reduce_sum(tf.sin(p * (n + 1.0))) for n, p in enumerate(found))
        weights = [weight.value for weight in layer.trainable_weights]
        return [*found, *tape.gradient(score, [inputs, *states, *weights])]

    if way != "eager":
        call = tf.function(call, jit_compile=way == "compiled")
    return [np.array(part, "float32") for part in call(tf.constant(_normal(*shape)), *states)]


OPTIONS = {
    "plain": {},
    "sequences": {"return_sequences": True},
    "started": {"started": True, "return_sequences": True},
    "backwards": {"go_backwards": True, "return_sequences": True},
    "without bias": {"use_bias": False},
    "dropout": {"dropout": 0.4, "return_sequences": True},
    "frozen": {"trainable": False},
    "masked": {"mask": MASK, "started": True, "return_sequences": True},
    "masked last": {"mask": MASK[:, ::-1], "started": True, "go_backwards": True},
    "masked column": {"mask": MASK[:, :, None], "started": True},
    "zeroed": {"mask": MASK, "zero_output_for_mask": True, "return_sequences": True},
    "one step": {"shape": (3, 1, 4), "return_sequences": True},
    "batch of one": {"shape": (1, 5, 4)},
    "empty batch": {"shape": (0, 5, 4), "return_sequences": True},
}


@pytest.mark.parametrize("case", OPTIONS)
def test_same_outputs_states_and_gradients(only, path, case, assert_close):
    if (path, case) == ("lstm", "empty batch"):
        pytest.skip("Keras's own LSTM refuses a batch that is known to be empty")
    expected = _one_call(path, **OPTIONS[case])
    with only(path):
        assert_close(_one_call(path, **OPTIONS[case]), expected)


@pytest.mark.parametrize("rows", [33, 64])
@pytest.mark.parametrize("case", ["sequences", "without bias", "masked", "zeroed"])
def test_a_batch_that_is_processed_in_halves_equals_keras(only, path, case, rows, assert_close):
    options = {**OPTIONS[case], "shape": (rows, 5, 4)}
    if "mask" in options:
        options["mask"] = np.random.default_rng(4).random((rows, 5)) < 0.6
    expected = _one_call(path, **options)
    with only(path):
        assert_close(_one_call(path, **options), expected)


def test_fit_with_halves_of_unknown_batches_equals_keras(only, path, assert_close):
    """The last batch has one row, so one of its halves is empty."""

    def trained():
        import keras

        keras.utils.set_random_seed(1)
        layers = [
            keras.Input((None, 4)),
            keras.layers.Masking(),
            _layer(path),
            keras.layers.Dense(1),
        ]
        model = keras.Sequential(layers)
        model.compile("sgd", "mse")
        x = _normal(7, 5, 4)
        x[2, 3:] = 0.0
        history = model.fit(x, x[:, 0, :1], batch_size=3, epochs=2, shuffle=False, verbose=0)
        return [*(w.numpy() for w in model.weights), np.array(history.history["loss"])]

    expected = trained()
    with only(path):
        assert_close(trained(), expected)


def test_loops_are_halved_only_where_it_pays_off(only, path):
    """Loops stay whole for few rows and for an unknown batch size outside `fit`."""
    import tensorflow as tf

    def count_loops(rows):
        layer = _layer(path)
        function = tf.function(layer).get_concrete_function(tf.TensorSpec((rows, 5, 4)))
        graph = function.graph.as_graph_def()
        functions = [graph.node, *(f.node_def for f in graph.library.function)]
        return sum(node.op in ("While", "StatelessWhile") for nodes in functions for node in nodes)

    with only(path):
        assert [count_loops(rows) for rows in (32, 31, None)] == [2, 1, 1]


@pytest.mark.parametrize("case", ["started", "masked"])
@pytest.mark.parametrize("way", ["eager", "compiled"])
def test_same_eagerly_and_compiled(only, path, way, case, assert_close):
    expected = _one_call(path, way=way, **OPTIONS[case])
    with only(path):
        assert_close(_one_call(path, way=way, **OPTIONS[case]), expected)


@pytest.mark.parametrize("products", ["whole", "divided"])
@pytest.mark.parametrize("case", ["sequences", "started", "masked", "dropout"])
def test_bfloat16_is_as_close_to_float32_as_keras_is(only, path, case, products, monkeypatch):
    """Compares the root mean square of each tensor, with a tenth of tolerance for chance."""
    monkeypatch.setattr(recurrent_layout, "has_amx_kernels", lambda: products == "divided")
    monkeypatch.setattr(recurrent_layout, "_BYTES_FOR_TWO_THREADS", 310)
    options = {**OPTIONS[case], "shape": (3, 5, 4)}
    exact = _one_call(path, **options)
    keras_own = _one_call(path, dtype="mixed_bfloat16", **options)
    with only(path):
        mine = _one_call(path, dtype="mixed_bfloat16", **options)
    errors = [
        sum(np.sqrt(np.mean((part - true) ** 2)) for part, true in zip(parts, exact, strict=True))
        for parts in (mine, keras_own)
    ]
    assert errors[0] <= 1.1 * errors[1]


def test_unknown_sizes(only, path, assert_close):
    import tensorflow as tf

    def run():
        layer = _layer(path, return_sequences=True)
        signature = [tf.TensorSpec((None, None, 4))]

        @tf.function(input_signature=signature)
        def call(inputs):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                outputs = layer(inputs, training=True)
            return outputs, tape.gradient(outputs, inputs)

        shapes = [(3, 5, 4), (1, 1, 4), (0, 2, 4), (2, 7, 4)]
        return [part.numpy() for shape in shapes for part in call(tf.constant(_normal(*shape)))]

    expected = run()
    with only(path):
        assert_close(run(), expected)


def test_gradients_of_gradients_and_through_a_function(only, path, assert_close):
    import tensorflow as tf

    def penalty():
        layer = _layer(path, return_sequences=True)
        inner = tf.function(lambda inputs: layer(inputs, training=True))
        kernel = layer.cell.recurrent_kernel.value

        @tf.function
        def call(inputs):
            with tf.GradientTape() as outer:
                outer.watch(inputs)
                with tf.GradientTape() as tape:
                    tape.watch(inputs)
                    score = tf.reduce_sum(layer(inputs, training=True) ** 3)
                norm = tf.reduce_sum(tape.gradient(score, inputs) ** 2)
            return outer.gradient(norm, [inputs, kernel])

        inputs = tf.constant(_normal(3, 5, 4))
        with tf.GradientTape() as tape:
            score = tf.reduce_sum(inner(inputs) ** 2)
        return [part.numpy() for part in (*call(inputs), tape.gradient(score, kernel))]

    expected = penalty()
    with only(path):
        assert_close(penalty(), expected)


def test_a_stateful_layer_keeps_its_states(only, path, assert_close):
    import tensorflow as tf

    def run():
        layer = _layer(path, shape=(3, 5, 4), stateful=True)
        call = tf.function(layer)
        outputs = [call(tf.constant(_normal(3, 5, 4))).numpy() for _ in range(2)]
        return outputs + [state.numpy() for state in layer.states]

    expected = run()
    with only(path):
        assert_close(run(), expected)


def _model(path):
    """Return a model with masked ids, dropout, a Bidirectional wrapper and two layers."""
    import keras

    keras.utils.set_random_seed(5)
    kind = getattr(keras.layers, KINDS[path])
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            keras.layers.Embedding(9, 4, mask_zero=True),
            keras.layers.Bidirectional(kind(5, return_sequences=True, dropout=0.2)),
            kind(6),
            keras.layers.Dense(2),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


def _trained(path):
    model = _model(path)
    ids = np.random.default_rng(5).integers(0, 9, (40, 6))
    model.fit(ids, _normal(40, 2), 4, shuffle=False, verbose=0)
    return model, ids


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_ten_training_steps_and_the_saved_model(only, path, precision, tmp_path, assert_close):
    """Weights are within 1e-5 in float32, 2e-2 in bfloat16; a saved model runs unpatched."""
    import keras

    patch_tensorflow(precision, disable="all")
    tolerance = 1e-5 if precision == "float32" else 2e-2
    expected, _ = _trained(path)
    with only(path):
        model, ids = _trained(path)
        model.save(tmp_path / "model.keras")
        mine = model.predict(ids, verbose=0)
    assert_close(model.get_weights(), expected.get_weights(), tolerance)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_close([loaded.predict(ids, verbose=0)], [mine], tolerance)


def test_ten_training_steps_compiled(only, path, assert_close):
    import keras

    def train():
        keras.utils.set_random_seed(5)
        layer = getattr(keras.layers, KINDS[path])(2)
        model = keras.Sequential([keras.Input((6, 4)), layer])
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=True)
        model.fit(_normal(40, 6, 4), _normal(40, 2), 4, shuffle=False, verbose=0)
        return model.get_weights()

    expected = train()
    with only(path):
        assert_close(train(), expected)


def test_a_replica_of_a_strategy_trains_as_in_keras(only, path, assert_close):
    import tensorflow as tf

    def train():
        strategy = tf.distribute.MirroredStrategy(["CPU:0"])
        with strategy.scope():
            model = _model(path)
        ids = np.random.default_rng(5).integers(0, 9, (16, 6))
        model.fit(ids, _normal(16, 2), 4, shuffle=False, verbose=0)
        return model.get_weights()

    expected = train()
    with only(path):
        assert_close(train(), expected)


def test_exported_models_predict_and_differentiate(only, path, tmp_path, assert_close):
    """They are traced with training=True, although a file cannot contain saved step values."""
    import tensorflow as tf

    inputs = tf.constant(_normal(3, 5, 4))
    with only(path):
        layer = _layer(path)
        module = tf.Module()
        module.weights = [weight.value for weight in layer.weights]
        signature = [tf.TensorSpec((None, None, 4))]
        module.call = tf.function(lambda x: layer(x, training=True), input_signature=signature)
        expected = _score_gradient(module.call, inputs)
        tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    assert_close(_score_gradient(loaded.call, inputs), expected)


def _score_gradient(call, inputs):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = call(inputs)
    return [outputs.numpy(), tape.gradient(outputs, inputs).numpy()]


@pytest.mark.parametrize(
    "options",
    [
        {"unroll": True},
        {"recurrent_dropout": 0.5},
        {"activation": "relu"},
        {"recurrent_activation": "hard_sigmoid"},
        {"implementation": 1},
        {"dtype": "float16"},
        {"dtype": "float64"},
    ],
    ids=str,
)
def test_steps_aside(only, path, options):
    try:
        expected = _graph_of(_layer(path, **options))
    except ValueError as error:
        # Keras 3.3's GRU.
        if "Unrecognized keyword arguments" not in str(error):
            raise
        pytest.skip("this Keras has no such argument")
    with only(path):
        assert _graph_of(_layer(path, **options)) == expected


def test_steps_aside_for_subclassed_cells_and_other_layers(only, path):
    import keras

    class Cell(getattr(keras.layers, KINDS[path] + "Cell")):
        pass

    def graphs():
        layer = _layer(path)
        layer.cell.__class__ = Cell
        other = keras.layers.RNN(Cell(6))
        other.build((3, 5, 4))
        return _graph_of(layer), _graph_of(other)

    expected = graphs()
    with only(path):
        assert graphs() == expected


def _graph_of(layer):
    import tensorflow as tf

    call = tf.function(lambda x: layer(x, training=True))
    graph = call.get_concrete_function(tf.TensorSpec((3, 5, 4))).graph
    return [op.type for op in graph.get_operations()]
