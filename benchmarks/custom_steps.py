"""Models with their own `train_step`, based on two examples of keras.io.

Their steps use the parts of `fit` directly: a tape, a loss object, the optimizer, a metric. The
layers and sizes are those of "End-to-end Masked Language Modeling with BERT" (with a smaller
batch) and of "Vector-Quantized Variational Autoencoders".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

__all__ = ["masked_lm", "masked_lm_batch", "vq_vae", "vq_vae_batch"]

_LENGTH, _WIDTH = 256, 128


def masked_lm(ids: int = 30_000) -> Any:
    """Return a masked language model: one encoder layer, and a softmax over all ids."""
    import tensorflow as tf
    from tensorflow import keras

    loss_of = keras.losses.SparseCategoricalCrossentropy(reduction="none")

    class MaskedLanguageModel(keras.Model):  # type: ignore[misc]
        """Trains on the weighted positions only."""

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.mean_loss = keras.metrics.Mean(name="loss")

        def train_step(self, data: Any) -> dict[str, Any]:
            tokens, (labels, weights) = data
            with tf.GradientTape() as tape:
                predictions = self(tokens, training=True)
                loss = loss_of(labels, predictions, sample_weight=weights)
            variables = self.trainable_variables
            gradients = tape.gradient(loss, variables)
            self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
            self.mean_loss.update_state(loss, sample_weight=weights)
            return {"loss": self.mean_loss.result()}

        @property
        def metrics(self) -> list[Any]:
            return [self.mean_loss]

    inputs = keras.Input((_LENGTH,), dtype="int64")
    layers = keras.layers
    x = layers.Embedding(ids, _WIDTH)(inputs)
    attention = layers.MultiHeadAttention(8, _WIDTH // 8)(x, x, x)
    x = layers.LayerNormalization(epsilon=1e-6)(x + layers.Dropout(0.1)(attention))
    hidden = layers.Dense(_WIDTH)(layers.Dense(_WIDTH, "relu")(x))
    x = layers.LayerNormalization(epsilon=1e-6)(x + layers.Dropout(0.1)(hidden))
    model = MaskedLanguageModel(inputs, layers.Dense(ids, "softmax")(x))
    model.compile(keras.optimizers.Adam(0.001))
    return model


def masked_lm_batch(rows: int = 8, ids: int = 30_000) -> Any:
    """Return a batch: tokens, and labels with a weight of 1 at masked positions."""
    import numpy as np

    rng = np.random.default_rng(0)
    labels = rng.integers(3, ids, (rows, _LENGTH))
    is_masked = rng.random(labels.shape) < 0.15
    return np.where(is_masked, 2, labels), (labels, is_masked.astype("float32"))


def vq_vae(latent: int = 16, codes: int = 128) -> Any:
    """Return an autoencoder of 28x28 images whose latent vectors are rows of a codebook."""
    import tensorflow as tf
    from tensorflow import keras

    layers = keras.layers

    class Quantizer(keras.layers.Layer):  # type: ignore[misc]
        """Replaces each vector with the nearest one in the codebook."""

        def __init__(self) -> None:
            super().__init__()
            self.codebook = self.add_weight(
                shape=(latent, codes), initializer="random_uniform", name="codebook"
            )

        def call(self, x: Any) -> Any:
            book = tf.convert_to_tensor(self.codebook)
            rows = tf.reshape(x, [-1, latent])
            squares = tf.reduce_sum(rows**2, 1, keepdims=True) + tf.reduce_sum(book**2, 0)
            nearest = tf.argmin(squares - 2 * tf.matmul(rows, book), 1)
            chosen = tf.matmul(tf.one_hot(nearest, codes), book, transpose_b=True)
            chosen = tf.reshape(chosen, tf.shape(x))
            self.add_loss(0.25 * tf.reduce_mean((tf.stop_gradient(chosen) - x) ** 2))
            self.add_loss(tf.reduce_mean((chosen - tf.stop_gradient(x)) ** 2))
            return x + tf.stop_gradient(chosen - x)

    class Trainer(keras.Model):  # type: ignore[misc]
        """Trains an autoencoder on the squared error and the losses of its quantizer."""

        def __init__(self, autoencoder: Any) -> None:
            super().__init__()
            self.autoencoder = autoencoder
            self.mean_loss = keras.metrics.Mean(name="loss")
            self.built = True

        def train_step(self, data: Any) -> dict[str, Any]:
            images, _ = data
            with tf.GradientTape() as tape:
                error = tf.reduce_mean((images - self.autoencoder(images)) ** 2)
                loss = error + sum(self.autoencoder.losses)
            variables = self.autoencoder.trainable_variables
            gradients = tape.gradient(loss, variables)
            self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
            self.mean_loss.update_state(loss)
            return {"loss": self.mean_loss.result()}

        @property
        def metrics(self) -> list[Any]:
            return [self.mean_loss]

    inputs = keras.Input((28, 28, 1))
    x = inputs
    for filters in (32, 64):
        x = layers.Conv2D(filters, 3, 2, padding="same", activation="relu")(x)
    x = Quantizer()(layers.Conv2D(latent, 1, padding="same")(x))
    for filters in (64, 32):
        x = layers.Conv2DTranspose(filters, 3, 2, padding="same", activation="relu")(x)
    outputs = layers.Conv2DTranspose(1, 3, padding="same")(x)
    model = Trainer(keras.Model(inputs, outputs))
    model.compile(keras.optimizers.Adam())
    return model


def vq_vae_batch(rows: int = 128) -> Any:
    """Return a batch of images, with labels that are not used."""
    import numpy as np

    images = np.random.default_rng(0).random((rows, 28, 28, 1), "float32")
    return images, np.zeros(rows, "int64")
