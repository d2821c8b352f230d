"""An Embedding reads only the rows that it looks up, and gives the values of Keras."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow

IDS = {
    "int32": np.array([[0, 5], [2, 2]], "int32"),
    "int64": np.array([[0, 5], [2, 2]]),
    "uint8": np.array([[0, 5], [2, 2]], "uint8"),
    "float32": np.array([[0, 5], [2, 2]], "float32"),
    "negative": np.array([[-1, 5], [-6, 2]]),
    "one": np.array(3),
    "none": np.zeros((0, 2), "int32"),
}


def _layer(**options):
    import keras

    keras.utils.set_random_seed(4)
    layer = keras.layers.Embedding(6, 3, **options)
    layer.build()
    return layer


def _answer(ids, way="graph", **options):
    """Return the output and the gradient of the table, for one batch of ids."""
    import tensorflow as tf

    layer = _layer(**options)

    def step(ids):
        with tf.GradientTape() as tape:
            output = layer(ids)
            loss = tf.reduce_sum(tf.square(tf.cast(output, "float32")))
        return output, tf.convert_to_tensor(tape.gradient(loss, layer.trainable_variables[0]))

    if way != "eager":
        step = tf.function(step, jit_compile=way == "compiled")
    return [np.array(value, "float32") for value in step(tf.constant(ids))]


@pytest.mark.parametrize("case", IDS)
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_same_values_and_gradients_bit_for_bit(only, case, dtype):
    expected = _answer(IDS[case], dtype=dtype)
    with only("embedding"):
        found = _answer(IDS[case], dtype=dtype)
    for mine, keras_own in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, keras_own)


@pytest.mark.parametrize("way", ["eager", "compiled"])
def test_every_way_of_running(only, way):
    expected = _answer(IDS["int32"])
    with only("embedding"):
        found = _answer(IDS["int32"], way)
    for mine, keras_own in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, keras_own)


def test_the_table_is_never_read_completely(only, count_ops):
    import tensorflow as tf

    ids = tf.constant(IDS["int32"])
    assert count_ops("ReadVariableOp", _layer(), ids) > 0
    with only("embedding"):
        layer = _layer()
        assert count_ops("ReadVariableOp", layer, ids) == 0
        assert count_ops("ResourceGather", layer, ids) == 1


def test_steps_aside_for_ragged_ids_quantization_and_lora(only, count_ops):
    import tensorflow as tf

    ids = tf.constant(IDS["int32"])
    with only("embedding"):
        ragged = tf.ragged.constant([[1, 2], [3]])
        np.testing.assert_array_equal(_layer()(ragged).row_lengths(), [2, 1])
        changed = [_layer(), _layer()]
        changed[0].enable_lora(2)
        changed[1].quantize("int8")
        for layer in changed:
            assert layer(ids).shape == (2, 2, 3)
            assert count_ops("ResourceGather", layer, ids) == 0


def test_masks_and_functional_models_work_as_in_keras(only):
    import keras

    with only("embedding"):
        inputs = keras.Input((None,), dtype="int32")
        layer = keras.layers.Embedding(6, 3, mask_zero=True)
        model = keras.Model(inputs, layer(inputs))
        assert model.output_shape == (None, None, 3)
        assert model(np.array([[0, 1]]))._keras_mask.numpy().tolist() == [[False, True]]


def test_lookups_see_rows_that_training_has_updated(only):
    """SGD scatters into the table; the next lookup must read the new rows."""
    import keras

    def train():
        keras.utils.set_random_seed(1)
        layers = [keras.layers.Embedding(20, 4), keras.layers.Flatten(), keras.layers.Dense(1)]
        model = keras.Sequential([keras.Input((2,), dtype="int32"), *layers])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        x = np.arange(16).reshape(8, 2)
        model.fit(x, np.ones((8, 1)), epochs=4, batch_size=2, shuffle=False, verbose=0)
        return model.get_weights()

    expected = train()
    with only("embedding"):
        found = train()
    for mine, keras_own in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, keras_own, rtol=1e-6, atol=1e-7)
