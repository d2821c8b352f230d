"""Autoencoders, flows and styles: sampling, priors, codebooks, statistics."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
from registry import case, keras
from training import FEATURES, IMAGES, fit, layer, steps

layers = keras.layers
PIXELS = (1 / (1 + np.exp(-IMAGES))).astype("float32")


def dense(*units, activation="relu", last=None, width=12):
    middle = [layers.Dense(n, activation) for n in units[:-1]]
    return keras.Sequential([keras.Input((width,)), *middle, layers.Dense(units[-1], last)])


class Sampling(layers.Layer):
    def call(self, inputs):
        mean, log_variance = inputs
        noise = tf.random.stateless_normal(tf.shape(mean), (9, 1))
        return mean + tf.exp(0.5 * log_variance) * noise


@case(legacy=True)
def variational_autoencoder_in_a_train_step():
    class Vae(keras.Model):
        def __init__(self, encoder, decoder):
            super().__init__()
            self.encoder, self.decoder = encoder, decoder
            self.total = keras.metrics.Mean(name="loss")

        @property
        def metrics(self):
            return [self.total]

        def call(self, x):
            return self.decoder(self.encoder(x)[2])

        def train_step(self, data):
            with tf.GradientTape() as tape:
                mean, log_variance, z = self.encoder(data)
                image = self.decoder(z)
                rebuilt = tf.reduce_mean(
                    tf.reduce_sum(keras.losses.binary_crossentropy(data, image), axis=(1, 2))
                )
                divergence = -0.5 * (1 + log_variance - tf.square(mean) - tf.exp(log_variance))
                loss = rebuilt + tf.reduce_mean(tf.reduce_sum(divergence, axis=1))
            gradients = tape.gradient(loss, self.trainable_weights)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_weights))
            self.total.update_state(loss)
            return {"loss": self.total.result()}

    image = keras.Input((8, 8, 3))
    x = layers.Flatten()(layers.Conv2D(8, 3, 2, "same", activation="relu")(image))
    mean, log_variance = layers.Dense(3)(x), layers.Dense(3)(x)
    encoder = keras.Model(image, [mean, log_variance, Sampling()([mean, log_variance])])
    code = keras.Input((3,))
    x = layers.Reshape((4, 4, 8))(layers.Dense(128, "relu")(code))
    decoded = layers.Conv2DTranspose(3, 3, 2, "same", activation="sigmoid")(x)
    model = Vae(encoder, keras.Model(code, decoded))
    model.compile(keras.optimizers.Adam(0.01))
    return float(model.fit(PIXELS, epochs=3, verbose=0, shuffle=False).history["loss"][-1])


@case(legacy=True)
def variational_autoencoder_with_a_tape():
    encoder, decoder = dense(16, 8), dense(16, 12, width=4)
    optimizer = keras.optimizers.Adam(0.01)
    wanted = tf.cast(FEATURES > 0, tf.float32)

    def log_normal(sample, mean, log_variance):
        logs = (sample - mean) ** 2.0 * tf.exp(-log_variance) + log_variance
        return tf.reduce_sum(-0.5 * (logs + tf.math.log(2.0 * np.pi)), axis=1)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            mean, log_variance = tf.split(encoder(FEATURES), num_or_size_splits=2, axis=1)
            noise = tf.random.stateless_normal(mean.shape, (6, 2))
            z = noise * tf.exp(log_variance * 0.5) + mean
            logits = decoder(z)
            cross = tf.nn.sigmoid_cross_entropy_with_logits(logits=logits, labels=wanted)
            evidence = -tf.reduce_sum(cross, axis=1) + log_normal(z, 0.0, 0.0)
            loss = -tf.reduce_mean(evidence - log_normal(z, mean, log_variance))
        weights = encoder.trainable_variables + decoder.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        return loss

    return steps(step)


@case(legacy=True)
def variational_loss_added_in_a_functional_model():
    class Divergence(layers.Layer):
        def call(self, inputs):
            mean, log_variance = inputs
            terms = 1 + log_variance - tf.square(mean) - tf.exp(log_variance)
            self.add_loss(-0.5 * tf.reduce_mean(terms))
            return inputs

    inputs = keras.Input((12,))
    hidden = layers.Dense(16, "relu")(inputs)
    pair = Divergence()([layers.Dense(3)(hidden), layers.Dense(3)(hidden)])
    outputs = layers.Dense(12)(layers.Dense(16, "relu")(Sampling()(pair)))
    return fit(keras.Model(inputs, outputs), FEATURES, FEATURES, "mse")


@case(legacy=True, tolerance=0.1, why="vectors near the border change their code")
def quantized_autoencoder():
    class Quantizer(layers.Layer):
        def __init__(self):
            super().__init__()
            start = tf.random_uniform_initializer(seed=3)
            self.codes = tf.Variable(start((8, 16), dtype="float32"), trainable=True, name="codes")

        def call(self, x):
            flat = tf.reshape(x, [-1, 8])
            similar = tf.matmul(flat, self.codes)
            distance = (
                tf.reduce_sum(flat**2, axis=1, keepdims=True)
                + tf.reduce_sum(self.codes**2, axis=0)
                - 2 * similar
            )
            chosen = tf.one_hot(tf.argmin(distance, axis=1), 16)
            quantized = tf.reshape(tf.matmul(chosen, self.codes, transpose_b=True), tf.shape(x))
            self.add_loss(0.25 * tf.reduce_mean((tf.stop_gradient(quantized) - x) ** 2))
            self.add_loss(tf.reduce_mean((quantized - tf.stop_gradient(x)) ** 2))
            return x + tf.stop_gradient(quantized - x)

    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, 2, "same", activation="relu")(inputs)
    x = Quantizer()(layers.Conv2D(8, 1)(x))
    outputs = layers.Conv2DTranspose(3, 3, 2, "same")(x)
    return fit(keras.Model(inputs, outputs), PIXELS, PIXELS, "mse", epochs=3)


@case(legacy=True)
def coupling_layers_of_a_flow():
    class Flow(keras.Model):
        def __init__(self):
            super().__init__()
            self.masks = np.array([[0, 1] * 6, [1, 0] * 6], dtype="float32")
            self.scales = [dense(16, 12, last="tanh") for _ in self.masks]
            self.shifts = [dense(16, 12) for _ in self.masks]
            self.tracker = keras.metrics.Mean(name="loss")

        @property
        def metrics(self):
            return [self.tracker]

        def call(self, x, training=True):
            total, direction = 0.0, -1 if training else 1
            for i in range(2)[::direction]:
                kept = x * self.masks[i]
                other = 1 - self.masks[i]
                s, t = self.scales[i](kept) * other, self.shifts[i](kept) * other
                x = other * (x - t) * tf.exp(-s) + kept
                total -= tf.reduce_sum(s, [1])
            return x, total

        def train_step(self, data):
            with tf.GradientTape() as tape:
                z, log_determinant = self(data)
                prior = -0.5 * tf.reduce_sum(z**2, 1) - 6.0 * math.log(2 * math.pi)
                loss = -tf.reduce_mean(prior + log_determinant)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
            self.tracker.update_state(loss)
            return {"loss": self.tracker.result()}

    model = Flow()
    model.compile(keras.optimizers.Adam(0.005))
    return float(model.fit(FEATURES, epochs=3, verbose=0, shuffle=False).history["loss"][-1])


@case(legacy=True)
def style_by_gram_matrices():
    inputs = keras.Input((8, 8, 3))
    first = layers.Conv2D(4, 3, activation="relu", name="first")(inputs)
    second = layers.Conv2D(6, 3, activation="relu", name="second")(first)
    extractor = keras.Model(inputs, {"first": first, "second": second})

    def gram(x):
        total = tf.linalg.einsum("bijc,bijd->bcd", x, x)
        shape = tf.shape(x)
        return total / tf.cast(shape[1] * shape[2], tf.float32)

    style = {n: gram(v) for n, v in extractor(PIXELS[:1]).items()}
    content = extractor(PIXELS[1:2])["second"]
    image = tf.Variable(PIXELS[1:2])
    optimizer = keras.optimizers.Adam(0.02)

    @tf.function()
    def step():
        with tf.GradientTape() as tape:
            found = extractor(image)
            loss = tf.add_n([tf.reduce_mean((gram(found[n]) - style[n]) ** 2) for n in style])
            loss += 0.1 * tf.reduce_mean((found["second"] - content) ** 2)
            loss += 1e-3 * tf.reduce_sum(tf.image.total_variation(image))
        optimizer.apply_gradients([(tape.gradient(loss, image), image)])
        image.assign(tf.clip_by_value(image, 0.0, 1.0))
        return loss

    return steps(step)


@case(legacy=True)
def style_by_matched_statistics():
    def call(self, x):
        style, content = tf.split(tf.reshape(x, (-1, 2, 2, 6)), 2, -1)
        moments = [tf.nn.moments(part, axes=[1, 2], keepdims=True) for part in (style, content)]
        deviations = [tf.sqrt(variance + 1e-5) for _, variance in moments]
        return deviations[0] * (content - moments[1][0]) / deviations[1] + moments[0][0]

    inputs = keras.Input((12,))
    x = layer(call)(layers.Dense(24)(inputs))
    return fit(
        keras.Model(inputs, layers.Dense(12)(layers.Flatten()(x))), FEATURES, FEATURES, "mse"
    )


@case(legacy=True)
def masked_convolution_of_pixels():
    class Masked(layers.Layer):
        def __init__(self, kind, **options):
            super().__init__()
            self.kind, self.conv = kind, layers.Conv2D(**options)

        def build(self, shape):
            self.conv.build(shape)
            mask = np.zeros(self.conv.kernel.shape, "float32")
            mask[:1, ...] = 1.0
            mask[1, :1, ...] = 1.0
            if self.kind == "B":
                mask[1, 1, ...] = 1.0
            self.mask = mask

        def call(self, x):
            self.conv.kernel.assign(self.conv.kernel * self.mask)
            return self.conv(x)

    inputs = keras.Input((8, 8, 3))
    x = Masked("A", filters=8, kernel_size=3, activation="relu", padding="same")(inputs)
    x = layers.add([x, Masked("B", filters=8, kernel_size=3, padding="same")(x)])
    outputs = layers.Conv2D(3, 1, activation="sigmoid")(x)
    return fit(keras.Model(inputs, outputs), PIXELS, PIXELS, "binary_crossentropy")
