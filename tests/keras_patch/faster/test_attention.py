"""Attention with its softmax as islands gives the same numbers as Keras.

float32 is within 1e-5 of the largest number: the same formulas, sums in another order. bfloat16 is
compared with the float32 numbers, and must not be farther from them than Keras.
"""

from __future__ import annotations

import numpy as np
import pytest

from nano_init.keras_patch import patch_tensorflow

pytestmark = pytest.mark.tensorflow

SHAPE = (4, 32, 2, 8)


def _attention(*, way="graph", dtype="float32", masked="", training=True, shape=SHAPE, keys=32):
    """Return outputs and the gradients with respect to query, key and value."""
    import keras
    import tensorflow as tf

    class Attention(keras.layers.Layer):
        def call(self, query, key, value, allowed=None):
            return keras.ops.dot_product_attention(
                query, key, value, mask=allowed, is_causal="causal" in masked
            )

    rng = np.random.default_rng(1)
    sizes = [shape, *2 * [(shape[0], keys, *shape[2:])]]
    inputs = [tf.constant(rng.standard_normal(size), dtype) for size in sizes]
    mask = rng.random((shape[0], 1, 1, keys)) < 0.7
    if "rows" in masked:
        mask = np.broadcast_to(mask, (shape[0], 1, shape[1], keys)).copy()
        mask[1, :, 3] = False
    mask = tf.constant(mask) if "mask" in masked else None
    layer = Attention(dtype="mixed_bfloat16" if dtype == "bfloat16" else dtype)

    def call(*inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            output = layer(*inputs, allowed=mask, training=training)
            score = tf.reduce_sum(tf.sin(tf.cast(output, tf.float32)))
        return output, *tape.gradient(score, inputs)

    if way == "unknown batch":
        specs = [tf.TensorSpec((None, *i.shape[1:]), i.dtype) for i in inputs]
        call = tf.function(call, input_signature=specs)
    elif way != "eager":
        call = tf.function(call, jit_compile=way == "compiled")
    return [tf.cast(part, tf.float32).numpy() for part in call(*inputs)]


@pytest.mark.parametrize("masked", ["", "causal", "mask", "causal mask", "mask rows"])
def test_same_outputs_and_gradients(only, assert_close, masked):
    """This includes rows that are masked completely."""
    expected = _attention(masked=masked)
    with only("attention"):
        assert_close(_attention(masked=masked), expected, 1e-5)


@pytest.mark.parametrize("way", ["eager", "unknown batch", "compiled"])
def test_same_numbers_in_every_way_of_running(only, assert_close, way):
    expected = _attention(masked="causal")
    with only("attention"):
        assert_close(_attention(masked="causal", way=way), expected, 1e-5)


@pytest.mark.parametrize("keys", [17, 96])
def test_the_number_of_keys_may_differ_from_that_of_queries(only, assert_close, keys):
    expected = _attention(keys=keys, masked="causal")
    with only("attention"):
        assert_close(_attention(keys=keys, masked="causal"), expected, 1e-5)


@pytest.mark.parametrize("masked", ["", "causal mask"])
def test_bfloat16_is_as_close_to_float32_as_keras_is(only, masked):
    wide = _attention(masked=masked)
    bare = _attention(masked=masked, dtype="bfloat16")
    with only("attention"):
        mine = _attention(masked=masked, dtype="bfloat16")
    for found, keras_own, exact in zip(mine, bare, wide, strict=True):
        assert np.abs(found - exact).mean() <= np.abs(keras_own - exact).mean() * 1.05 + 1e-6


@pytest.mark.parametrize(
    "options", [{"training": False}, {"shape": (1, 4, 2, 8), "keys": 4}], ids=str
)
def test_steps_aside(only, assert_close, options):
    expected = _attention(**options)
    with only("attention"):
        assert_close(_attention(**options), expected, 0.0)


def test_there_is_one_island_per_direction_in_the_layer(only, count_islands):
    import keras
    import tensorflow as tf

    layer = keras.layers.MultiHeadAttention(2, 8)
    inputs = tf.ones((4, 32, 16))
    layer(inputs, inputs)

    def call(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            output = layer(inputs, inputs, training=True, use_causal_mask=True)
        return tape.gradient(output, inputs)

    with only("attention"):
        assert count_islands(call, inputs) == 2


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 2e-2)])
def test_ten_steps_and_a_saved_model(only, ten_steps, assert_close, tmp_path, precision, tolerance):
    import keras

    def build():
        inputs = keras.Input((32, 16))
        attended = keras.layers.MultiHeadAttention(2, 8)(inputs, inputs, use_causal_mask=True)
        return keras.Model(inputs, keras.layers.Dense(3)(attended))

    rng = np.random.default_rng(3)
    inputs, targets = rng.standard_normal((80, 32, 16), "float32"), rng.standard_normal((80, 32, 3))
    patch_tensorflow(precision, disable="all")
    _, expected = ten_steps(build, inputs, targets)
    with only("attention"):
        model, weights = ten_steps(build, inputs, targets)
        model.save(tmp_path / "model.keras")
        mine = model.predict(inputs, verbose=0)
    assert_close(weights, expected, tolerance)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_close([loaded.predict(inputs, verbose=0)], [mine], tolerance)
