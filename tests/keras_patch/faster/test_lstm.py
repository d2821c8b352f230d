"""Tests that apply only to the LSTM path; `test_recurrence.py` compares it with Keras."""

from __future__ import annotations

import numpy as np
import pytest

from nano_init.keras_patch.faster import lstm


@pytest.mark.tensorflow
def test_a_step_follows_the_formula_and_its_backward_step_the_derivative():
    import tensorflow as tf

    rng = np.random.default_rng(0)
    inputs, recurrent = (tf.constant(rng.standard_normal((12, 2), "float32")) for _ in range(2))
    states = [tf.constant(rng.standard_normal((3, 2), "float32")) for _ in range(2)]
    upstream = [tf.constant(rng.standard_normal((3, 2), "float32")) for _ in range(2)]
    with tf.GradientTape() as tape:
        tape.watch([recurrent, *states])
        (h, c), saved = lstm._step(inputs, recurrent, states, 0)
    expected = tape.gradient([h, c], [recurrent, states[1]], upstream)
    products, (d_h, d_c) = lstm._back(saved, upstream)
    assert d_h is None
    np.testing.assert_allclose(tf.concat(products, 0), expected[0], atol=1e-5)
    np.testing.assert_allclose(d_c, expected[1], atol=1e-5)
    i, f, g, o = np.split(inputs + recurrent, 4, axis=0)
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    by_hand = sigmoid(f) * states[1] + sigmoid(i) * np.tanh(g)
    np.testing.assert_allclose(c, by_hand, atol=1e-6)
    np.testing.assert_allclose(h, sigmoid(o) * np.tanh(by_hand), atol=1e-6)
