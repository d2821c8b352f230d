"""Dropout as islands drops exactly the elements that Keras drops in float32."""

from __future__ import annotations

import numpy as np
import pytest

from nano_init.keras_patch import patch_tensorflow

pytestmark = pytest.mark.tensorflow

SHAPE = (32, 8, 64)


def _layer(rate=0.3, dtype="float32", **options):
    import keras

    return keras.layers.Dropout(rate, seed=11, dtype=dtype, **options)


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.5, 0.97])
@pytest.mark.parametrize("shape", [SHAPE, (33, 257)])
def test_the_same_elements_are_dropped(only, one_call, assert_close, rate, shape):
    expected = one_call(lambda: _layer(rate), shape)
    with only("dropout"):
        assert_close(one_call(lambda: _layer(rate), shape), expected, 1e-6)


@pytest.mark.parametrize("way", ["eager", "unknown batch", "unknown sizes", "compiled", "replica"])
def test_the_same_in_every_way_of_running(only, one_call, assert_close, way):
    expected = one_call(_layer, SHAPE, way=way)
    with only("dropout"):
        assert_close(one_call(_layer, SHAPE, way=way), expected, 1e-6)


def test_every_step_draws_the_same_new_mask_as_keras(only):
    import tensorflow as tf

    def three_masks():
        layer = _layer()
        call = tf.function(lambda x: layer(x, training=True))
        return [call(tf.ones(SHAPE)).numpy() for _ in range(3)]

    expected = three_masks()
    with only("dropout"):
        found = three_masks()
    for mine, keras_own in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, keras_own, rtol=1e-6)
    assert (found[0] != found[1]).any()


def test_bfloat16_drops_the_same_elements_as_float32(only, one_call):
    """Keras draws seven random bits in bfloat16, which turns a rate of 0.002 into 0.0078."""
    import tensorflow as tf

    def dropped(dtype):
        layer = _layer(0.002, dtype)
        call = tf.function(lambda x: layer(x, training=True))
        return call(tf.ones((512, 512), tf.as_dtype(layer.compute_dtype))).numpy() == 0

    wide, bare = dropped("float32"), dropped("mixed_bfloat16")
    with only("dropout"):
        np.testing.assert_array_equal(dropped("mixed_bfloat16"), wide)
    assert 0.001 < wide.mean() < 0.003 < bare.mean()


def test_gradients_are_zero_exactly_where_values_are_dropped(only, one_call):
    with only("dropout"):
        output, gradient = one_call(lambda: _layer(0.5), SHAPE)
    np.testing.assert_array_equal(output == 0, gradient == 0)


@pytest.mark.parametrize(
    ("options", "shape", "training"),
    [
        ({"noise_shape": (None, 1, 64)}, SHAPE, True),
        ({}, SHAPE, False),
        ({}, (2, 4), True),
        ({}, (0, 8, 64), True),
        ({"rate": 0.0}, SHAPE, True),
    ],
    ids=str,
)
def test_steps_aside(only, one_call, assert_close, count_islands, options, shape, training):
    import tensorflow as tf

    expected = one_call(lambda: _layer(**options), shape, training=training)
    with only("dropout"):
        found = one_call(lambda: _layer(**options), shape, training=training)
        layer = _layer(**options)
        assert count_islands(lambda x: layer(x, training=training), tf.ones(shape)) == 0
    assert_close(found, expected, 0.0)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 5e-2)])
def test_ten_steps(only, ten_steps, assert_close, precision, tolerance):
    import keras

    def build():
        hidden = [keras.layers.Dense(512, "relu"), keras.layers.Dropout(0.5, seed=1)]
        return keras.Sequential([keras.Input((16,)), *hidden, keras.layers.Dense(3)])

    rng = np.random.default_rng(3)
    inputs, targets = rng.standard_normal((320, 16), "float32"), rng.standard_normal((320, 3))
    patch_tensorflow(precision, disable="all")
    _, expected = ten_steps(build, inputs, targets)
    with only("dropout"):
        _, weights = ten_steps(build, inputs, targets)
    assert_close(weights, expected, tolerance)
