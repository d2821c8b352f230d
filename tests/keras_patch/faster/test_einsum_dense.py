"""EinsumDense as one matrix product gives the same numbers as Keras's einsum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init.keras_patch import patch_tensorflow
from nano_init.keras_patch.faster.einsum_dense import parse_contraction

CASES = {
    "abc,cd->abd": ((2, 3, 4), (None, 5)),
    "abc,cde->abde": ((2, 3, 4), (None, 2, 5)),
    "abcd,cde->abe": ((2, 3, 2, 4), (None, 6)),
    "abcd,de->abce": ((2, 3, 2, 4), (None, 2, 6)),
}


@pytest.mark.parametrize(
    ("equation", "count"),
    [
        ("abc,cd->abd", 1),
        ("abc,cde->abde", 1),
        (" abcd, cde -> abe ", 2),
        ("ab,bc->ac", None),
        ("abc,dc->abd", None),
        ("abc,cd->adb", None),
        ("abcd,dce->abe", None),
        ("abc,abd->abcd", None),
        ("aab,bc->aac", None),
        ("...x,xy->...y", None),
        ("abc,cd", None),
        ("", None),
    ],
)
def test_products_of_rows_and_a_matrix_are_recognized(equation, count):
    assert parse_contraction(equation) == count


_TERMS = st.text("abcde", min_size=1, max_size=4)


@given(_TERMS, _TERMS, _TERMS)
def test_a_recognized_contraction_equals_einsum(inputs, kernel, result):
    equation = f"{inputs},{kernel}->{result}"
    count = parse_contraction(equation)
    if count is None:
        return
    sizes = dict(zip("abcde", (2, 3, 4, 5, 6), strict=True))
    rng = np.random.default_rng(0)
    x = rng.standard_normal([sizes[letter] for letter in inputs])
    matrix = rng.standard_normal([sizes[letter] for letter in kernel])
    expected = np.einsum(equation, x, matrix)
    np.testing.assert_allclose(np.tensordot(x, matrix, count), expected, atol=1e-12)


def _one_call(equation, *, way="eager", batch=2, **options):
    """Return output and gradients of one call."""
    import keras
    import tensorflow as tf

    shape, output_shape = CASES[equation]
    rng = np.random.default_rng(2)
    wide = (shape[1], *output_shape[1:])
    layer = keras.layers.EinsumDense(equation, wide, bias_axes=equation[-1], **options)
    layer.build(shape)
    for weight in layer.weights:
        weight.assign(rng.standard_normal(weight.shape))
    inputs = tf.constant(rng.standard_normal((batch, *shape[1:])).astype("float32"))

    def call(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            output = tf.cast(layer(inputs), tf.float32)
            score = tf.reduce_sum(tf.sin(output))
        return [output, *tape.gradient(score, [inputs, *(v.value for v in layer.weights)])]

    if way != "eager":
        call = tf.function(call, jit_compile=way == "compiled")
    return [np.array(part) for part in call(inputs)]


@pytest.mark.tensorflow
@pytest.mark.parametrize("equation", CASES)
@pytest.mark.parametrize("way", ["eager", "graph"])
def test_same_output_and_gradients(only, equation, way, assert_close):
    expected = _one_call(equation)
    with only("einsum_dense"):
        assert_close(_one_call(equation, way=way), expected)


@pytest.mark.tensorflow
@pytest.mark.parametrize("batch", [0, 1])
def test_an_empty_batch_and_a_batch_of_one(only, batch, assert_close):
    expected = _one_call("abc,cde->abde", batch=batch)
    with only("einsum_dense"):
        assert_close(_one_call("abc,cde->abde", batch=batch), expected)


@pytest.mark.tensorflow
def test_a_compiled_frozen_layer_with_an_activation_equals_keras(only, assert_close):
    options = {"activation": "gelu", "trainable": False}
    expected = _one_call("abcd,cde->abe", **options)
    with only("einsum_dense"):
        assert_close(_one_call("abcd,cde->abe", way="compiled", **options), expected)


@pytest.mark.tensorflow
def test_unknown_sizes(only, count_ops):
    """Batch and length may be unknown; the product still covers all rows."""
    import keras
    import tensorflow as tf

    with only("einsum_dense"):
        layer = keras.layers.EinsumDense("abc,cde->abde", (None, 2, 5))
        layer.build((None, None, 4))
        call = tf.function(layer, input_signature=[tf.TensorSpec((None, None, 4))])
        assert call(tf.ones((2, 3, 4))).shape == (2, 3, 2, 5)
        assert call(tf.ones((0, 3, 4))).shape == (0, 3, 2, 5)
        assert count_ops("MatMul", layer, tf.TensorSpec((None, None, 4))) == 1


@pytest.mark.tensorflow
def test_steps_aside_for_other_products(only, count_ops):
    import keras
    import tensorflow as tf

    with only("einsum_dense"):
        layer = keras.layers.EinsumDense("abc,ac->ab", (3,))
        layer.build((2, 3, 4))
        assert count_ops("MatMul", layer, tf.ones((2, 3, 4))) == 0


@pytest.mark.tensorflow
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_ten_training_steps_of_attention(only, precision, tmp_path, assert_close):
    """Weights are within 1e-4 in float32, 2e-2 in bfloat16; a saved model runs unpatched."""
    import keras

    def train():
        keras.utils.set_random_seed(5)
        inputs = keras.Input((6, 8))
        x = keras.layers.MultiHeadAttention(2, 4)(inputs, inputs)
        outputs = keras.layers.Dense(3)(x)
        model = keras.Model(inputs, outputs)
        model.compile(keras.optimizers.SGD(0.1), "mse")
        rng = np.random.default_rng(5)
        x, y = rng.standard_normal((40, 6, 8), "float32"), rng.standard_normal((40, 6, 3))
        model.fit(x, y, 4, shuffle=False, verbose=0)
        return model, x

    patch_tensorflow(precision)
    tolerance = 1e-4 if precision == "float32" else 2e-2
    expected, _ = train()
    with only("einsum_dense"):
        model, x = train()
        model.save(tmp_path / "model.keras")
        mine = model.predict(x, verbose=0)
    assert_close(model.get_weights(), expected.get_weights(), tolerance)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_close([loaded.predict(x, verbose=0)], [mine], tolerance)
