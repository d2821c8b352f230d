"""A gradient that is differentiated again is computed by ops, so that layers can share islands."""

from __future__ import annotations

import numpy as np
import pytest

from nano_init.keras_patch.faster.recording import is_recorded

pytestmark = pytest.mark.tensorflow


def test_a_gradient_is_recorded_inside_of_another_tape():
    import tensorflow as tf

    seen = []

    @tf.custom_gradient
    def same(tensor):
        def gradient(upstream):
            seen.append(is_recorded())
            return upstream

        return tf.identity(tensor), gradient

    tensor = tf.constant(1.0)
    with tf.GradientTape() as outer:
        outer.watch(tensor)
        with tf.GradientTape() as inner:
            inner.watch(tensor)
            value = same(tensor)
        inner.gradient(value, tensor)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        value = same(tensor)
    tape.gradient(value, tensor)
    assert seen == [True, False]


def _block(name, tensor):
    from keras import layers

    if name == "attention":
        return tensor + layers.MultiHeadAttention(2, 64)(tensor, tensor)
    layer = {
        "activations": lambda: layers.Activation("gelu"),
        "dropout": lambda: layers.Dropout(0.3, seed=1),
        "layer_norm": layers.LayerNormalization,
    }[name]
    return layer()(tensor)


def _penalized(name):
    """Return losses and weights of a fit with a penalty on the gradient by the inputs."""
    import keras
    import tensorflow as tf

    class Penalized(keras.Model):
        """A model with the penalty of Gulrajani et al., 2017."""

        def train_step(self, data):
            """Train on one batch."""
            with tf.GradientTape() as outer:
                with tf.GradientTape() as inner:
                    inner.watch(data)
                    score = self(data, training=True)
                slopes = tf.reshape(inner.gradient(score, data), [tf.shape(data)[0], -1])
                penalty = tf.reduce_mean((tf.norm(slopes, axis=1) - 1.0) ** 2)
                loss = penalty + tf.reduce_mean(score**2)
            weights = self.trainable_variables
            self.optimizer.apply_gradients(zip(outer.gradient(loss, weights), weights, strict=True))
            return {"loss": loss}

    keras.utils.set_random_seed(1)
    inputs = tensor = keras.Input((16, 8))
    for _ in range(2):
        tensor = keras.layers.Dense(128, "tanh")(tensor)
        tensor = _block(name, tensor)
    outputs = keras.layers.Dense(1)(keras.layers.Flatten()(tensor))
    model = Penalized(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.01))
    data = np.random.default_rng(1).standard_normal((80, 16, 8), "float32")
    history = model.fit(data, batch_size=32, shuffle=False, verbose=0).history["loss"]
    return [np.array(history), *(np.array(weight) for weight in model.weights)]


@pytest.mark.parametrize("name", ["activations", "dropout", "layer_norm", "attention"])
def test_a_fit_with_a_penalty_on_gradients_of_layers_that_share_islands(
    only, assert_close, capsys, name
):
    expected = _penalized(name)
    with only(name):
        assert_close(_penalized(name), expected, 1e-4)
    assert "nano-init" not in capsys.readouterr().err
