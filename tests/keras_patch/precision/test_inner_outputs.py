"""A tape finds the gradient with respect to an inner output, as in float32 training."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

pytestmark = [pytest.mark.tensorflow, pytest.mark.usefixtures("mixed")]

X = np.random.default_rng(3).normal(size=(2, 3)).astype("float32")


def model_with_inner_output(activation):
    inputs = keras.Input((3,))
    inner = layers.Dense(4, activation)(inputs)
    return keras.Model(inputs, [inner, layers.Dense(1)(inner)])


@pytest.mark.parametrize("activation", ["linear", "softmax"])
@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "graph"])
def test_the_gradient_flows_through_the_later_layers(activation, wrap):
    model = model_with_inner_output(activation)

    def slope():
        with tf.GradientTape() as tape:
            inner, output = model(X)
            score = tf.reduce_sum(output) + 2.0 * tf.reduce_sum(inner)
        return tape.gradient(score, inner)

    gradient = wrap(slope)()
    assert gradient.dtype == tf.float32
    kernel = model.layers[-1].get_weights()[0][:, 0]
    np.testing.assert_allclose(gradient, np.tile(kernel + 2.0, (2, 1)), atol=0.02)


def test_gradients_work_with_subclassed_models_and_nested_sources():
    class Pair(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = layers.Dense(4), layers.Dense(1)

        def call(self, x):
            inner = self.first(x)
            return {"inner": inner, "out": self.second(inner)}

    model = Pair()
    with tf.GradientTape() as tape:
        found = model(X)
    asked = {"inner": found["inner"], "weights": [model.second.kernel]}
    gradients = tape.gradient(found["out"], asked)
    kernel = model.second.get_weights()[0][:, 0]
    np.testing.assert_allclose(gradients["inner"][0], kernel, atol=0.02)
    assert gradients["weights"][0].shape == (4, 1)


def test_a_watched_output_has_its_own_gradient():
    hidden = layers.Dense(4)(X)
    with tf.GradientTape() as tape:
        tape.watch(hidden)
        value = tf.reduce_sum(hidden * 3.0)
    np.testing.assert_allclose(tape.gradient(value, hidden), np.full((2, 4), 3.0))


def test_an_unconnected_output_has_the_requested_gradient():
    hidden = layers.Dense(4)(X)
    with tf.GradientTape(persistent=True) as tape:
        value = tf.reduce_sum(tf.constant(X))
    assert tape.gradient(value, hidden) is None
    zeros = tape.gradient(value, hidden, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    assert zeros.numpy().tolist() == [[0.0] * 4] * 2
