"""A gradient that is differentiated again is computed by ops, so that layers can share islands."""

from __future__ import annotations

import numpy as np
import pytest

from nano_init.keras_patch.faster.recording import is_recorded, may_be_differentiated

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


@pytest.mark.parametrize("is_in_branch", [False, True])
def test_a_gradient_may_be_differentiated_if_tf_gradients_creates_it(is_in_branch):
    """A tape that differentiates a branch calls the same function of TensorFlow."""
    import tensorflow as tf

    seen = []

    @tf.custom_gradient
    def same(tensor):
        def gradient(upstream):
            seen.append(may_be_differentiated())
            return upstream

        return tf.identity(tensor), gradient

    def value_of(tensor):
        if not is_in_branch:
            return same(tensor)
        return tf.cond(tensor > 0.0, lambda: same(tensor), lambda: tensor)

    @tf.function(autograph=False)
    def by_graph(tensor):
        return tf.gradients(value_of(tensor), tensor)

    @tf.function(autograph=False)
    def by_tape(tensor):
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            value = value_of(tensor)
        return tape.gradient(value, tensor)

    by_graph(tf.constant(1.0))
    assert set(seen) == {True}
    seen.clear()
    by_tape(tf.constant(1.0))
    assert set(seen) == {False}


def _block(name, tensor):
    from keras import layers

    if name == "attention":
        return tensor + layers.MultiHeadAttention(2, 64)(tensor, tensor)
    layer = {
        "activations": lambda: layers.Activation("gelu"),
        "batch_norm": layers.BatchNormalization,
        "dropout": lambda: layers.Dropout(0.3, seed=1),
        "layer_norm": layers.LayerNormalization,
    }[name]
    return layer()(tensor)


def _slopes_by_tape(model, data):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(data)
        score = model(data, training=True)
    return score, tape.gradient(score, data)


def _slopes_by_graph(model, data):
    import tensorflow as tf

    score = model(data, training=True)
    return score, tf.gradients(score, data)[0]


def _penalized(name, is_symbolic):
    """Return losses and weights of a fit with a penalty on the gradient by the inputs.

    Args:
        name: The path of a layer that occurs twice.
        is_symbolic: Whether `tf.gradients` differentiates, without a tape.
    """
    import keras
    import tensorflow as tf

    class Penalized(keras.Model):
        """A model with the penalty of Gulrajani et al., 2017."""

        def train_step(self, data):
            """Train on one batch."""
            weights = self.trainable_variables
            if is_symbolic:
                loss = self.penalized(*_slopes_by_graph(self, data))
                slopes = tf.gradients(loss, [weight.value for weight in weights])
            else:
                with tf.GradientTape() as tape:
                    loss = self.penalized(*_slopes_by_tape(self, data))
                slopes = tape.gradient(loss, weights)
            self.optimizer.apply_gradients(zip(slopes, weights, strict=True))
            return {"penalized": loss}

        def penalized(self, score, slopes):
            """Return the loss with its penalty."""
            rows = tf.reshape(slopes, [tf.shape(slopes)[0], -1])
            penalty = tf.reduce_mean((tf.norm(rows, axis=1) - 1.0) ** 2)
            return penalty + tf.reduce_mean(score**2)

    keras.utils.set_random_seed(1)
    inputs = tensor = keras.Input((16, 8))
    for _ in range(2):
        tensor = keras.layers.Dense(128, "tanh")(tensor)
        tensor = _block(name, tensor)
    outputs = keras.layers.Dense(1)(keras.layers.Flatten()(tensor))
    model = Penalized(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.01))
    data = np.random.default_rng(1).standard_normal((80, 16, 8), "float32")
    history = model.fit(data, batch_size=32, shuffle=False, verbose=0).history["penalized"]
    return [np.array(history), *(np.array(weight) for weight in model.weights)]


@pytest.mark.parametrize("is_symbolic", [False, True], ids=["tapes", "tf.gradients"])
@pytest.mark.parametrize(
    "name", ["activations", "batch_norm", "dropout", "layer_norm", "attention"]
)
def test_a_fit_with_a_penalty_on_gradients_of_layers_that_share_islands(
    only, assert_close, capsys, name, is_symbolic
):
    expected = _penalized(name, is_symbolic)
    with only(name):
        assert_close(_penalized(name, is_symbolic), expected, 1e-4)
    assert "nano-init" not in capsys.readouterr().err
