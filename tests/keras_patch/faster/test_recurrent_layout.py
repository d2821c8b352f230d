"""Both tensor layouts of a recurrent loop give the same products."""

from __future__ import annotations

import numpy as np
import pytest

from nano_init.keras_patch.faster import recurrent_layout
from nano_init.keras_patch.faster.recurrent_layout import Layout

pytestmark = pytest.mark.tensorflow

TIME, BATCH, FEATURES, UNITS = 3, 4, 5, 6


@pytest.fixture(params=[True, False], ids=["units first", "batch first"])
def layout(request):
    return Layout(request.param)


def normal(*shape):
    import tensorflow as tf

    return tf.constant(np.random.default_rng(len(shape)).standard_normal(shape, "float32"))


def test_units_come_first_in_bfloat16_and_for_batches_of_full_vectors():
    import tensorflow as tf

    chosen = [
        Layout.of(dtype, batch).units_first
        for dtype in (tf.bfloat16, tf.float32)
        for batch in (1, 15, 16, None)
    ]
    assert chosen == [True] * 4 + [False, False, True, False]


def test_a_projection_adds_its_bias_as_weights_of_an_extra_feature(layout):
    import tensorflow as tf

    steps, matrix, bias = normal(TIME, BATCH, FEATURES), normal(FEATURES, UNITS), normal(UNITS)
    ones = tf.ones((TIME, BATCH, 1))
    found = layout.project(layout.operand(matrix, bias), tf.concat([steps, ones], 2))
    expected = np.einsum("tbf,fu->tbu", steps, matrix) + bias
    for step, exact in zip(found, expected, strict=True):
        np.testing.assert_allclose(layout.turned(step), exact, rtol=1e-5, atol=1e-5)


def test_a_step_multiplies_its_state_and_adds_a_broadcast_vector(layout):
    state, matrix, bias = normal(BATCH, UNITS), normal(UNITS, 2 * UNITS), normal(2 * UNITS)
    product = layout.multiply(layout.operand(matrix), layout.turned(state))
    found = layout.turned(product + layout.spread(bias, like=layout.turned(state)))
    np.testing.assert_allclose(found, state.numpy() @ matrix + bias, rtol=1e-5, atol=1e-5)


def test_gradients_are_products_over_all_rows_of_all_steps(layout):
    import tensorflow as tf

    d_product, rows = normal(TIME, BATCH, UNITS), normal(TIME, BATCH, FEATURES)
    joined = layout.joined(tf.stack([layout.turned(step) for step in d_product]))
    lying = tf.stack([layout.turned(step) for step in rows])
    found = layout.d_operand(joined, layout.rows(lying))
    expected = layout.turned(tf.einsum("tbf,tbu->fu", rows, d_product))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        layout.summed(joined), d_product.numpy().sum((0, 1)), rtol=1e-5, atol=1e-5
    )


def test_outputs_are_returned_batch_first(layout):
    import tensorflow as tf

    outputs = normal(TIME, BATCH, UNITS)
    lying = tf.stack([layout.turned(step) for step in outputs])
    np.testing.assert_array_equal(layout.batch_first(lying), np.swapaxes(outputs, 0, 1))


def count_products(dtype, rows, shared, columns):
    import tensorflow as tf

    def multiply(operand, tensor):
        return Layout(units_first=True).multiplier(operand, columns)(tensor)

    specs = [tf.TensorSpec((rows, shared), dtype), tf.TensorSpec((shared, columns), dtype)]
    graph = tf.function(multiply).get_concrete_function(*specs).graph
    return sum(operation.type == "MatMul" for operation in graph.get_operations())


@pytest.mark.parametrize(
    ("shape", "parts"),
    [
        ((2048, 512, 32), 2),
        ((512, 2048, 32), 2),
        ((4096, 1024, 32), 8),
        ((2048, 512, None), 2),
        # They fit as they are, the second one by TensorFlow's hundredth on top.
        ((1536, 512, 32), 1),
        ((2048, 512, 4), 1),
        # So many columns keep two threads busy.
        ((2048, 512, 64), 1),
        # No divisor, and none that is small enough.
        ((2049, 512, 32), 1),
        ((16384, 4096, 32), 1),
    ],
)
def test_bfloat16_products_of_few_columns_are_divided_for_one_thread(monkeypatch, shape, parts):
    monkeypatch.setattr(recurrent_layout, "has_amx_kernels", lambda: True)
    assert count_products("bfloat16", *shape) == parts


def test_products_stay_whole_in_float32_and_without_amx(monkeypatch):
    monkeypatch.setattr(recurrent_layout, "has_amx_kernels", lambda: True)
    assert count_products("float32", 2048, 512, 32) == 1
    monkeypatch.setattr(recurrent_layout, "has_amx_kernels", lambda: False)
    assert count_products("bfloat16", 2048, 512, 32) == 1
