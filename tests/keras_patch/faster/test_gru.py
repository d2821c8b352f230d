"""Tests that apply only to the GRU path; `test_recurrence.py` compares it with Keras."""

from __future__ import annotations

import numpy as np
import pytest

from nano_init.keras_patch.faster import gru

pytestmark = pytest.mark.tensorflow


def test_a_step_follows_the_formula_and_its_backward_step_the_derivative():
    import tensorflow as tf

    rng = np.random.default_rng(0)
    inputs, recurrent = (tf.constant(rng.standard_normal((9, 2), "float32")) for _ in range(2))
    before, upstream = (tf.constant(rng.standard_normal((3, 2), "float32")) for _ in range(2))
    with tf.GradientTape() as tape:
        tape.watch([inputs, recurrent, before])
        (h,), saved = gru._step(inputs, recurrent, [before], 0)
    expected = tape.gradient(h, [recurrent, inputs, before], upstream)
    (own, *by_recurrent), (d_before,) = gru._back(saved, [upstream])
    np.testing.assert_allclose(tf.concat(by_recurrent, 0), expected[0], atol=1e-5)
    np.testing.assert_allclose(tf.concat([*by_recurrent[:2], own], 0), expected[1], atol=1e-5)
    np.testing.assert_allclose(d_before, expected[2], atol=1e-5)
    (x_z, x_r, x_h), (h_z, h_r, h_h) = (np.split(t, 3, axis=0) for t in (inputs, recurrent))
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    z, r = sigmoid(x_z + h_z), sigmoid(x_r + h_r)
    by_hand = z * before + (1 - z) * np.tanh(x_h + r * h_h)
    np.testing.assert_allclose(h, by_hand, atol=1e-6)


def test_steps_aside_if_the_reset_gate_is_applied_first(only, count_ops):
    import keras
    import tensorflow as tf

    def products():
        layer = keras.layers.GRU(6, reset_after=False)
        layer.build((3, 5, 4))
        return count_ops("MatMul", lambda x: layer(x, training=True), tf.TensorSpec((3, 5, 4)))

    expected = products()
    with only("gru"):
        assert products() == expected
