"""BatchNormalization with the fused kernel gives the same numbers as Keras."""

from __future__ import annotations

import numpy as np
import pytest

from nano_init.keras_patch import patch_tensorflow

pytestmark = pytest.mark.tensorflow

KERNEL = "FusedBatchNormV3"


def test_float32_steps_aside_under_xla(only, assert_close):
    """There, the kernel computes the variance in one pass, which is inexact far from zero."""
    shape = (16, 2, 2, 3)
    expected = _one_step(shape, offset=100.0)
    with only("batch_norm"):
        assert_close(_one_step(shape, offset=100.0, way="compiled"), expected, 1e-4)


def _run(way, function, *arguments):
    import tensorflow as tf

    if way == "eager":
        return function(*arguments)
    return tf.function(function, jit_compile=way == "compiled")(*arguments)


def _one_step(shape, *, way="eager", training=True, seed=1, offset=0.5, **options):
    """Return all results of one call: output, gradients, moving statistics."""
    import keras
    import tensorflow as tf

    rng = np.random.default_rng(seed)
    layer = keras.layers.BatchNormalization(**options)
    layer.build((None, *shape[1:]))
    for index, weight in enumerate(layer.weights):
        weight.assign(rng.uniform(0.5, 1.5, weight.shape) + 0.1 * index)
    inputs = tf.constant((rng.standard_normal(shape) + offset).astype("float32"))
    towards = tf.constant(rng.standard_normal(shape).astype("float32"))

    def step(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            output = layer(inputs, training=training)
            score = tf.reduce_sum(tf.cast(output, tf.float32) * towards)
        wanted = [inputs, *(v.value for v in layer.trainable_variables)]
        return [output, *tape.gradient(score, wanted)]

    found = _run(way, step, inputs)
    numbers = [tf.cast(part, tf.float32).numpy() for part in found]
    return numbers + [np.array(w) for w in layer.non_trainable_variables]


@pytest.mark.parametrize("way", ["eager", "graph", "compiled"])
@pytest.mark.parametrize("training", [True, False])
def test_same_numbers_in_every_way_of_running(only, way, training, assert_close):
    shape = (4, 5, 3, 6)
    expected = _one_step(shape, training=training)
    with only("batch_norm"):
        assert_close(_one_step(shape, training=training, way=way), expected, 1e-5)


@pytest.mark.parametrize("shape", [(9, 4), (3, 7, 4), (2, 3, 4, 2, 5)])
@pytest.mark.parametrize("axis", [-1, "last"])
def test_same_numbers_at_every_rank(only, shape, axis, assert_close):
    options = {"axis": len(shape) - 1 if axis == "last" else axis}
    expected = _one_step(shape, **options)
    with only("batch_norm"):
        assert_close(_one_step(shape, **options), expected, 1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"center": False},
        {"scale": False},
        {"center": False, "scale": False},
        {"trainable": False},
        {"momentum": 0.0},
        {"epsilon": 1e-5},
        {"epsilon": 1e-7},
    ],
    ids=str,
)
def test_same_numbers_with_every_option(only, options, assert_close):
    expected = _one_step((4, 3, 3, 5), **options)
    with only("batch_norm"):
        assert_close(_one_step((4, 3, 3, 5), **options), expected, 1e-5)


def test_moving_variance_is_biased(only):
    """The biased variance of 0 and 2 is 1, the unbiased one is 2."""
    import keras

    with only("batch_norm"):
        layer = keras.layers.BatchNormalization(momentum=0.0)
        layer(np.array([[0.0], [2.0]], "float32"), training=True)
    assert np.array(layer.moving_variance) == pytest.approx([1.0])


def test_statistics_are_exact_far_from_zero(only, assert_close):
    """The kernel subtracts the mean before it squares, like Keras."""
    expected = _one_step((16, 2, 2, 3), offset=100.0)
    with only("batch_norm"):
        assert_close(_one_step((16, 2, 2, 3), offset=100.0), expected, 1e-4)


def test_a_batch_with_one_value_per_channel_equals_keras(only, assert_close):
    expected = _one_step((1, 1, 1, 3))
    with only("batch_norm"):
        assert_close(_one_step((1, 1, 1, 3)), expected, 1e-5)


def test_an_empty_batch_gives_the_same_statistics(only, assert_close):
    expected = _one_step((0, 2, 2, 3))
    with only("batch_norm"):
        found = _one_step((0, 2, 2, 3))
    assert found[0].shape == expected[0].shape
    assert_close(found[-2:], expected[-2:], 1e-5)


def test_gradients_of_gradients(only, assert_close):
    import keras
    import tensorflow as tf

    def penalty():
        layer = keras.layers.BatchNormalization()
        inputs = tf.constant(np.random.default_rng(3).standard_normal((4, 2, 2, 3), "float32"))
        layer.build(inputs.shape)
        with tf.GradientTape() as outer:
            outer.watch(inputs)
            with tf.GradientTape() as inner:
                inner.watch(inputs)
                score = tf.reduce_sum(layer(inputs, training=True) ** 3)
            norm = tf.reduce_sum(inner.gradient(score, inputs) ** 2)
        return outer.gradient(norm, inputs).numpy()

    expected = penalty()
    with only("batch_norm"):
        assert_close([penalty()], [expected], 1e-4)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_ten_training_steps(only, precision, assert_close):
    """Weights differ only by rounding: 1e-4 in float32, 2e-2 if layers compute in bfloat16."""
    import keras

    def train():
        keras.utils.set_random_seed(5)
        rng = np.random.default_rng(5)
        model = keras.Sequential(
            [
                keras.Input((6, 6, 3)),
                keras.layers.Conv2D(8, 3),
                keras.layers.BatchNormalization(),
                keras.layers.ReLU(),
                keras.layers.Flatten(),
                keras.layers.Dense(4, "softmax"),
            ]
        )
        model.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy")
        inputs = rng.standard_normal((40, 6, 6, 3), "float32")
        model.fit(inputs, rng.integers(0, 4, 40), 4, shuffle=False, verbose=0)
        return [np.array(weight) for weight in model.weights]

    patch_tensorflow(precision)
    expected = train()
    with only("batch_norm"):
        assert_close(train(), expected, 1e-4 if precision == "float32" else 2e-2)


def test_bfloat16_is_normalized_with_float32_statistics(only, assert_close):
    """Outputs are within one digit of bfloat16 (2^-7) of Keras, statistics within 1e-5."""
    shape = (16, 4, 4, 3)
    expected = _one_step(shape, dtype="mixed_bfloat16")
    with only("batch_norm"):
        found = _one_step(shape, dtype="mixed_bfloat16")
    assert_close(found[:-2], expected[:-2], 2**-7)
    assert_close(found[-2:], expected[-2:], 1e-5)


def test_float32_inputs_keep_their_digits_under_the_patch(only):
    """Like Keras under the patch: the mean of 1000.5 is not rounded to 1000."""
    import keras

    def moving_mean():
        model = keras.Sequential([keras.Input((1,)), keras.layers.BatchNormalization(momentum=0.0)])
        model(np.full((4, 1), 1000.5, "float32"), training=True)
        return float(np.array(model.layers[0].moving_mean)[0])

    patch_tensorflow("mixed_bfloat16")
    with only("batch_norm"):
        assert moving_mean() == 1000.5


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"axis": 1}, (4, 3, 2, 2)),
        ({"synchronized": True}, (4, 2, 2, 3)),
        ({"dtype": "float64"}, (4, 2, 2, 3)),
        ({"dtype": "float16"}, (4, 2, 2, 3)),
    ],
    ids=str,
)
def test_steps_aside(only, count_ops, options, shape):
    import keras
    import tensorflow as tf

    dtype = options.get("dtype", "float32")
    with only("batch_norm"):
        layer = keras.layers.BatchNormalization(**options)
        layer.build(shape)
        inputs = tf.ones(shape, dtype)
        assert count_ops(KERNEL, lambda x: layer(x, training=True), inputs) == 0


def test_steps_aside_for_a_mask(only, count_ops):
    import keras
    import tensorflow as tf

    with only("batch_norm"):
        layer = keras.layers.BatchNormalization()
        layer.build((2, 3, 4))
        mask = tf.constant([[True, True, False], [True, False, False]])
        call = lambda x: layer(x, training=True, mask=mask)  # noqa: E731
        assert count_ops(KERNEL, call, tf.ones((2, 3, 4))) == 0


def test_supports_unknown_batch_and_image_sizes(only, count_ops):
    import keras
    import tensorflow as tf

    with only("batch_norm"):
        layer = keras.layers.BatchNormalization()
        layer.build((None, None, None, 4))
        unknown = tf.TensorSpec((None, None, None, 4))
        assert count_ops(KERNEL, lambda x: layer(x, training=True), unknown) == 1
        layer = keras.layers.BatchNormalization()
        layer.build((None, None, 3))
        normalize = tf.function(lambda x: layer(x, training=True))
        assert normalize(tf.ones((2, 5, 3))).shape == (2, 5, 3)


def test_a_replica_of_a_strategy_keeps_the_same_statistics(only, assert_close):
    import keras
    import tensorflow as tf

    def train():
        keras.utils.set_random_seed(2)
        cpus = tf.config.list_logical_devices("CPU")
        strategy = tf.distribute.MirroredStrategy([cpu.name for cpu in cpus])
        with strategy.scope():
            layer = keras.layers.BatchNormalization(momentum=0.5)
            layer.build((None, 3))
        inputs = tf.constant(np.random.default_rng(1).standard_normal((4, 3), "float32"))
        strategy.run(tf.function(lambda: layer(inputs, training=True)))
        return [np.array(weight) for weight in layer.weights]

    expected = train()
    with only("batch_norm"):
        assert_close(train(), expected, 1e-5)


def test_a_saved_model_does_not_depend_on_the_path(only, tmp_path):
    import keras

    path = str(tmp_path / "model.keras")
    inputs = np.random.default_rng(1).standard_normal((8, 4), "float32")
    with only("batch_norm"):
        model = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()])
        model.compile("sgd", "mse")
        model.fit(inputs, inputs, verbose=0)
        model.save(path)
        mine = model.predict(inputs, verbose=0)
    loaded = keras.models.load_model(path)
    np.testing.assert_allclose(loaded.predict(inputs, verbose=0), mine, atol=1e-5)
