"""The loop multiplies all inputs at once, and is as exact in bfloat16 as Keras."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize(("rows", "product"), [(3, "MatMul"), (16, "BatchMatMulV2")])
def test_the_inputs_of_all_steps_are_multiplied_at_once(only, kind, rows, product, count_ops):
    import keras
    import tensorflow as tf

    inputs = tf.TensorSpec((rows, 5, 4))
    layer = getattr(keras.layers, kind)(6)
    layer.build((None, None, 4))

    def call(x):
        return layer(x, training=True)

    assert count_ops(product, call, inputs) != 1
    with only(kind.lower()):
        assert count_ops(product, call, inputs) == 1


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("shape", [(1, 3, 2), (32, 1, 5), (33, 4, 1)], ids=str)
def test_gradients_of_unusual_shapes_equal_keras(only, kind, shape, assert_close):
    """One row, one step, one feature; 32 or more rows are processed in halves."""
    import keras
    import tensorflow as tf

    inputs = tf.constant(np.random.default_rng(2).standard_normal(shape, "float32"))

    def numbers():
        keras.utils.set_random_seed(3)
        layer = getattr(keras.layers, kind)(5, return_sequences=True, bias_initializer="normal")
        layer.build(shape)

        @tf.function
        def call(inputs):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                score = tf.reduce_sum(tf.sin(3.0 * layer(inputs)))
            return tape.gradient(score, [inputs, *(v.value for v in layer.trainable_weights)])

        return [part.numpy() for part in call(inputs)]

    expected = numbers()
    with only(kind.lower()):
        assert_close(numbers(), expected, 1e-5)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_layer_with_many_units_is_about_as_close_to_float32_as_keras(only, kind):
    """The mean error of outputs and gradients is at most 1.5 times that of Keras."""
    import keras
    import tensorflow as tf

    inputs = np.random.default_rng(2).standard_normal((3, 4, 8), "float32")

    def numbers(dtype):
        keras.utils.set_random_seed(3)
        layer = getattr(keras.layers, kind)(440, dtype=dtype)
        layer.build(inputs.shape)

        @tf.function
        def call(inputs):
            with tf.GradientTape() as tape:
                output = tf.cast(layer(tf.cast(inputs, layer.compute_dtype)), tf.float32)
                score = tf.reduce_sum(tf.sin(3.0 * output))
            return [output, *tape.gradient(score, [v.value for v in layer.trainable_weights])]

        return [tf.cast(part, tf.float32).numpy() for part in call(tf.constant(inputs))]

    exact, keras_own = numbers("float32"), numbers("mixed_bfloat16")
    with only(kind.lower()):
        mine = numbers("mixed_bfloat16")
    for found, own, true in zip(mine, keras_own, exact, strict=True):
        assert np.abs(found - true).mean() <= 1.5 * np.abs(own - true).mean()
