"""A loop's product is the matrix product, whichever operand comes first."""

from __future__ import annotations

import numpy as np
import pytest

from nano_init.keras_patch.faster.loop_product import LoopProduct

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize("shape", [(512, 1024), (24, 40)], ids=["large", "small"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("turned", [False, True])
def test_it_is_the_matrix_product(shape, dtype, turned):
    """Within a unit in the last place: sums of the same numbers in another order."""
    import tensorflow as tf

    rng = np.random.default_rng(1)
    matrix = tf.cast(rng.standard_normal(shape), dtype)
    rows = tf.cast(rng.standard_normal((7, shape[1 if turned else 0])), dtype)
    product = LoopProduct.of(matrix, 7, turned=turned)
    wide = [tf.cast(part, tf.float64).numpy() for part in (rows, matrix)]
    expected = wide[0] @ (wide[1].T if turned else wide[1])
    found = tf.cast(product(rows), tf.float64).numpy()
    unit = {"bfloat16": 2**-8, "float32": 2**-18}[dtype]
    assert np.abs(found - expected).max() <= unit * np.abs(expected).max()
    assert product.rows == shape[1 if turned else 0]
    assert product.dtype == matrix.dtype


@pytest.mark.parametrize(
    ("shape", "dtype", "batch", "expected"),
    [
        ((512, 1024), "bfloat16", 32, True),
        ((512, 1024), "bfloat16", None, True),
        ((512, 1024), "bfloat16", 256, False),
        ((512, 1024), "float32", 32, False),
        ((64, 64), "bfloat16", 32, False),
    ],
    ids=str,
)
def test_a_large_matrix_in_bfloat16_comes_first_for_few_rows(shape, dtype, batch, expected):
    import tensorflow as tf

    assert LoopProduct.of(tf.zeros(shape, dtype), batch).is_first is expected


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_layer_of_many_units_is_as_near_to_float32_as_kerass_own(only, kind):
    """Outputs and gradients, by their mean distance; sums of biases may be half as far again."""
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
