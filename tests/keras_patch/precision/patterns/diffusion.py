"""Diffusion and rendering: noise schedules, encoded times and positions, averaged weights."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
from registry import case, keras
from training import FEATURES, IMAGES, layer, steps

layers = keras.layers
PIXELS = (1 / (1 + np.exp(-IMAGES))).astype("float32")


def spectrum(x):
    frequencies = tf.exp(tf.linspace(tf.math.log(1.0), tf.math.log(50.0), 4))
    angles = 2.0 * math.pi * frequencies * x
    return tf.concat([tf.sin(angles), tf.cos(angles)], axis=3)


def noise_predictor():
    image, power = keras.Input((8, 8, 3)), keras.Input((1, 1, 1))
    e = layers.UpSampling2D(8)(layer(lambda self, x: spectrum(x))(power))
    x = layers.Concatenate()([layers.Conv2D(8, 1)(image), e])
    x = layers.BatchNormalization(center=False, scale=False)(x)
    x = layers.Conv2D(8, 3, padding="same", activation="swish")(x)
    return keras.Model([image, power], layers.Conv2D(3, 1, kernel_initializer="zeros")(x))


def average_into(average, network):
    for weight, mean in zip(network.weights, average.weights):
        mean.assign(0.9 * mean + (1 - 0.9) * weight)


@case(legacy=True)
def implicit_diffusion_with_averaged_weights():
    class Diffusion(keras.Model):
        def __init__(self):
            super().__init__()
            self.normalizer = layers.Normalization()
            self.network = noise_predictor()
            self.average = keras.models.clone_model(self.network)
            self.tracker = keras.metrics.Mean(name="loss")

        @property
        def metrics(self):
            return [self.tracker]

        def rates(self, times):
            start, end = tf.acos(0.95), tf.acos(0.02)
            angles = start + times * (end - start)
            return tf.sin(angles), tf.cos(angles)

        def denoise(self, noisy, noise_rates, signal_rates, training):
            network = self.network if training else self.average
            noises = network([noisy, noise_rates**2], training=training)
            return noises, (noisy - noise_rates * noises) / signal_rates

        def train_step(self, images):
            images = self.normalizer(images, training=True)
            noises = tf.random.stateless_normal(tf.shape(images), (3, 3))
            times = tf.random.stateless_uniform((tf.shape(images)[0], 1, 1, 1), (4, 4))
            noise_rates, signal_rates = self.rates(times)
            noisy = signal_rates * images + noise_rates * noises
            with tf.GradientTape() as tape:
                found, _ = self.denoise(noisy, noise_rates, signal_rates, True)
                loss = self.loss(noises, found)
            gradients = tape.gradient(loss, self.network.trainable_weights)
            self.optimizer.apply_gradients(zip(gradients, self.network.trainable_weights))
            average_into(self.average, self.network)
            self.tracker.update_state(loss)
            return {"loss": self.tracker.result()}

        def generate(self, count):
            images = tf.random.stateless_normal((count, 8, 8, 3), (8, 8))
            for step in range(3):
                times = tf.ones((count, 1, 1, 1)) - step / 3
                noises, clean = self.denoise(images, *self.rates(times), False)
                noise_rates, signal_rates = self.rates(times - 1 / 3)
                images = signal_rates * clean + noise_rates * noises
            images = self.normalizer.mean + clean * self.normalizer.variance**0.5
            return tf.clip_by_value(images, 0.0, 1.0)

    model = Diffusion()
    model.normalizer.adapt(PIXELS)
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss=keras.losses.mean_absolute_error)
    model.fit(PIXELS, epochs=2, verbose=0, shuffle=False)
    loss = model.fit(PIXELS, epochs=1, verbose=0, shuffle=False).history["loss"][-1]
    generated = model.generate(2)
    assert np.asarray(generated).dtype == np.float32
    return float(np.mean(loss)) + float(tf.reduce_mean(tf.cast(generated, tf.float32)))


@case(legacy=True)
def stepwise_diffusion_with_a_table():
    betas = np.linspace(1e-4, 0.02, 20, dtype=np.float64)
    kept = np.cumprod(1.0 - betas)
    roots = tf.constant(np.sqrt(kept), tf.float32), tf.constant(np.sqrt(1 - kept), tf.float32)

    class TimeEmbedding(layers.Layer):
        def __init__(self):
            super().__init__()
            self.rates = tf.exp(tf.range(4, dtype=tf.float32) * -(math.log(10000) / 3))

        def call(self, t):
            angles = tf.cast(t, dtype=tf.float32)[:, None] * self.rates[None, :]
            return tf.concat([tf.sin(angles), tf.cos(angles)], axis=-1)

    x, t = keras.Input((12,)), keras.Input((), dtype="int64")
    joined = layers.concatenate([x, layers.Dense(8, "swish")(TimeEmbedding()(t))])
    model = keras.Model([x, t], layers.Dense(12)(layers.Dense(24, "swish")(joined)))
    optimizer = keras.optimizers.Adam(0.01)
    times = tf.constant(np.arange(96) % 20, tf.int64)
    noise = tf.random.stateless_normal((96, 12), (7, 7))

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            signal, spread = (tf.reshape(tf.gather(r, times), [-1, 1]) for r in roots)
            noisy = signal * tf.cast(FEATURES, tf.float32) + spread * noise
            loss = tf.reduce_mean(tf.square(noise - model([noisy, times], training=True)))
        gradients = tape.gradient(loss, model.trainable_weights)
        optimizer.apply_gradients(zip(gradients, model.trainable_weights))
        return loss

    return steps(step)


@case(legacy=True)
def radiance_field_with_encoded_positions():
    def encode(x):
        parts = [x]
        for i in range(3):
            parts += [f(2.0**i * x) for f in (tf.sin, tf.cos)]
        return tf.concat(parts, axis=-1)

    model = keras.Sequential([keras.Input((21,)), layers.Dense(16, "relu"), layers.Dense(4)])
    depths = tf.linspace(2.0, 6.0, 5)
    origins, directions = tf.constant(FEATURES[:24, :3]), tf.constant(FEATURES[:24, 3:6])
    rays = origins[:, None, :] + directions[:, None, :] * depths[None, :, None]
    optimizer, wanted = keras.optimizers.Adam(0.01), tf.sigmoid(FEATURES[:24, 6:9])

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            out = tf.reshape(model(encode(tf.reshape(rays, [-1, 3]))), (24, 5, 4))
            colour, density = tf.sigmoid(out[..., :-1]), tf.nn.relu(out[..., -1])
            delta = depths[1:] - depths[:-1]
            delta = tf.concat([delta, tf.constant([1e10])], -1)
            alpha = 1.0 - tf.exp(-density * delta)
            light = tf.math.cumprod(1.0 - alpha + 1e-10, axis=-1, exclusive=True)
            image = tf.reduce_sum((alpha * light)[..., None] * colour, axis=-2)
            loss = tf.reduce_mean((image - wanted) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return loss

    return steps(step)
