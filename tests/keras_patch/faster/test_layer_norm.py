"""Layer and RMS normalization as islands give the same numbers as Keras's ops.

float32 is within 2e-5 of the largest number: the same formulas, sums in another order. bfloat16 is
compared with the float32 numbers, and must not be farther from them than Keras.
"""

from __future__ import annotations

import numpy as np
import pytest

from nano_init.keras_patch import patch_tensorflow

pytestmark = pytest.mark.tensorflow

SHAPE = (32, 8, 64)


def _layer(kind="LayerNormalization", **options):
    import keras

    if not hasattr(keras.layers, kind):
        pytest.skip(f"this Keras has no {kind}")
    return getattr(keras.layers, kind)(**options)


@pytest.mark.parametrize("kind", ["LayerNormalization", "RMSNormalization"])
@pytest.mark.parametrize("shape", [SHAPE, (256, 96), (64, 3, 5, 33)])
def test_same_outputs_and_gradients(only, one_call, assert_close, kind, shape):
    expected = one_call(lambda: _layer(kind), shape)
    with only("layer_norm"):
        assert_close(one_call(lambda: _layer(kind), shape), expected, 2e-5)


@pytest.mark.parametrize("way", ["eager", "unknown batch", "compiled", "replica", "threads"])
@pytest.mark.parametrize("kind", ["LayerNormalization", "RMSNormalization"])
def test_same_numbers_in_every_way_of_running(only, one_call, assert_close, kind, way):
    expected = one_call(lambda: _layer(kind), SHAPE)
    with only("layer_norm"):
        assert_close(one_call(lambda: _layer(kind), SHAPE, way=way), expected, 2e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"center": False},
        {"scale": False},
        {"center": False, "scale": False},
        {"trainable": False},
        {"epsilon": 1e-6},
        {"axis": 2},
        {"axis": [-1]},
    ],
    ids=str,
)
def test_same_numbers_with_every_option(only, one_call, assert_close, options):
    expected = one_call(lambda: _layer(**options), SHAPE)
    with only("layer_norm"):
        assert_close(one_call(lambda: _layer(**options), SHAPE), expected, 2e-5)


@pytest.mark.parametrize("kind", ["LayerNormalization", "RMSNormalization"])
def test_bfloat16_is_as_close_to_float32_as_keras_is(only, one_call, kind):
    wide = one_call(lambda: _layer(kind), SHAPE)
    bare = one_call(lambda: _layer(kind, dtype="mixed_bfloat16"), SHAPE)
    with only("layer_norm"):
        mine = one_call(lambda: _layer(kind, dtype="mixed_bfloat16"), SHAPE)
    for found, keras_own, exact in zip(mine, bare, wide, strict=True):
        assert np.abs(found - exact).mean() <= np.abs(keras_own - exact).mean() * 1.05 + 1e-6


def test_values_far_from_zero(only, assert_close):
    """The variance is computed from differences from the mean, not from squares."""
    import tensorflow as tf

    inputs = 1000.0 + np.random.default_rng(1).standard_normal((256, 64)).astype("float32")

    def outputs():
        layer = _layer()
        return tf.function(lambda x: layer(x, training=True))(tf.constant(inputs)).numpy()

    expected = outputs()
    with only("layer_norm"):
        assert_close([outputs()], [expected], 1e-4)


def test_gradients_of_gradients(only, assert_close):
    import tensorflow as tf

    inputs = tf.constant(np.random.default_rng(3).standard_normal((128, 64)).astype("float32"))

    def penalty():
        layer = _layer()
        layer.build(inputs.shape)

        @tf.function
        def call(inputs):
            with tf.GradientTape() as outer:
                outer.watch(inputs)
                with tf.GradientTape() as inner:
                    inner.watch(inputs)
                    score = tf.reduce_sum(layer(inputs, training=True) ** 3)
                norm = tf.reduce_sum(inner.gradient(score, inputs) ** 2)
            return outer.gradient(norm, inputs)

        return call(inputs).numpy()

    expected = penalty()
    with only("layer_norm"):
        assert_close([penalty()], [expected], 1e-4)


@pytest.mark.parametrize(
    ("options", "shape", "training"),
    [
        ({"axis": 1}, SHAPE, True),
        ({"axis": [1, 2]}, SHAPE, True),
        ({"dtype": "float16"}, SHAPE, True),
        ({}, SHAPE, False),
        ({}, (1, 64), True),
        ({}, (0, 8, 64), True),
    ],
    ids=str,
)
def test_steps_aside(only, count_islands, options, shape, training):
    import tensorflow as tf

    with only("layer_norm"):
        layer = _layer(**options)
        layer.build(shape)
        inputs = tf.ones(shape, layer.compute_dtype)
        assert count_islands(lambda x: layer(x, training=training), inputs) == 0


def test_float32_inputs_keep_their_digits_under_the_patch(only):
    """The float32 input of a model reaches the layer unrounded, as without the path."""
    import keras
    import tensorflow as tf

    inputs = tf.constant(1000.0 + np.random.default_rng(1).random((64, 256)).astype("float32"))

    def outputs():
        model = keras.Sequential([keras.Input((256,)), keras.layers.LayerNormalization()])
        return tf.function(lambda x: model(x, training=True))(inputs).numpy()

    patch_tensorflow("mixed_bfloat16", disable="all")
    expected = outputs()
    with only("layer_norm"):
        np.testing.assert_allclose(outputs(), expected, atol=2**-7)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 2e-2)])
def test_ten_steps_and_a_saved_model(only, ten_steps, assert_close, tmp_path, precision, tolerance):
    import keras

    def build():
        hidden = [keras.layers.Dense(512), keras.layers.LayerNormalization()]
        return keras.Sequential([keras.Input((16,)), *hidden, keras.layers.Dense(3)])

    rng = np.random.default_rng(3)
    inputs, targets = rng.standard_normal((320, 16), "float32"), rng.standard_normal((320, 3))
    patch_tensorflow(precision, disable="all")
    _, expected = ten_steps(build, inputs, targets)
    with only("layer_norm"):
        model, weights = ten_steps(build, inputs, targets)
        model.save(tmp_path / "model.keras")
        mine = model.predict(inputs, verbose=0)
    assert_close(weights, expected, tolerance)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_close([loaded.predict(inputs, verbose=0)], [mine], tolerance)
