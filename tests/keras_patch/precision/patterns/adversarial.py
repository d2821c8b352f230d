"""Adversarial networks: two optimizers, alternating tapes, gradient penalties."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from registry import case, keras
from training import FEATURES, IMAGES, TOKENS, steps

layers = keras.layers
IMAGE = np.tanh(IMAGES).astype("float32")


def generator():
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(64, use_bias=False),
            layers.BatchNormalization(),
            layers.LeakyReLU(),
            layers.Reshape((4, 4, 4)),
            layers.Conv2DTranspose(3, 3, 2, "same", activation="tanh"),
        ]
    )


def critic():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3, 2, "same"),
            layers.LeakyReLU(),
            layers.Dropout(0.0),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )


def noise(seed, shape=(16, 6)):
    return tf.random.stateless_normal(shape, (seed, 1))


def update(optimizer, tape, loss, model):
    weights = model.trainable_variables
    optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))


@case(legacy=True)
def two_tapes_and_two_optimizers():
    make, judge = generator(), critic()
    first, second = keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3)
    cross = keras.losses.BinaryCrossentropy(from_logits=True)

    @tf.function
    def step(images):
        with tf.GradientTape() as make_tape, tf.GradientTape() as judge_tape:
            fake = make(noise(1), training=True)
            real_out, fake_out = judge(images, training=True), judge(fake, training=True)
            make_loss = cross(tf.ones_like(fake_out), fake_out)
            judge_loss = cross(tf.ones_like(real_out), real_out)
            judge_loss += cross(tf.zeros_like(fake_out), fake_out)
        update(first, make_tape, make_loss, make)
        update(second, judge_tape, judge_loss, judge)
        return make_loss + judge_loss

    return steps(lambda: step(tf.constant(IMAGE[:16])))


@case(legacy=True)
def one_network_after_the_other_in_a_train_step():
    class Gan(keras.Model):
        def __init__(self, make, judge):
            super().__init__()
            self.make, self.judge = make, judge

        def compile(self, d_optimizer, g_optimizer, loss_fn):
            super().compile()
            self.d_optimizer, self.g_optimizer, self.loss_fn = d_optimizer, g_optimizer, loss_fn
            self.d_metric = keras.metrics.Mean(name="d_loss")
            self.g_metric = keras.metrics.Mean(name="g_loss")

        @property
        def metrics(self):
            return [self.d_metric, self.g_metric]

        def call(self, x):
            return self.make(x)

        def train_step(self, real):
            size = tf.shape(real)[0]
            fake = self.make(tf.random.stateless_normal((size, 6), (2, 5)))
            both = tf.concat([fake, real], axis=0)
            labels = tf.concat([tf.ones((size, 1)), tf.zeros((size, 1))], axis=0)
            labels += 0.05 * tf.random.stateless_uniform(tf.shape(labels), (3, 3))
            with tf.GradientTape() as tape:
                d_loss = self.loss_fn(labels, self.judge(both))
            update(self.d_optimizer, tape, d_loss, self.judge)
            with tf.GradientTape() as tape:
                out = self.judge(self.make(tf.random.stateless_normal((size, 6), (8, 8))))
                g_loss = self.loss_fn(tf.zeros((size, 1)), out)
            update(self.g_optimizer, tape, g_loss, self.make)
            self.d_metric.update_state(d_loss)
            self.g_metric.update_state(g_loss)
            return {"d_loss": self.d_metric.result(), "g_loss": self.g_metric.result()}

    model = Gan(generator(), critic())
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3), loss)
    logs = model.fit(IMAGE, batch_size=16, epochs=2, verbose=0, shuffle=False).history
    return float(logs["d_loss"][-1]) + float(logs["g_loss"][-1])


@case(legacy=True)
def gradient_penalty_between_images():
    make, judge = generator(), critic()
    first, second = keras.optimizers.Adam(1e-3, 0.5, 0.9), keras.optimizers.Adam(1e-3, 0.5, 0.9)

    def penalty(real, fake):
        alpha = tf.random.stateless_uniform([16, 1, 1, 1], (4, 9), 0.0, 1.0)
        between = real + alpha * (fake - real)
        with tf.GradientTape() as tape:
            tape.watch(between)
            out = judge(between, training=True)
        gradients = tape.gradient(out, [between])[0]
        norm = tf.sqrt(tf.reduce_sum(tf.square(gradients), axis=[1, 2, 3]))
        return tf.reduce_mean((norm - 1.0) ** 2)

    @tf.function
    def step():
        real = tf.constant(IMAGE[:16])
        for seed in range(2):
            with tf.GradientTape() as tape:
                fake = make(noise(seed), training=True)
                cost = tf.reduce_mean(judge(fake, training=True))
                cost -= tf.reduce_mean(judge(real, training=True))
                loss = cost + penalty(real, fake) * 10.0
            update(second, tape, loss, judge)
        with tf.GradientTape() as tape:
            made = -tf.reduce_mean(judge(make(noise(7), training=True), training=True))
        update(first, tape, made, make)
        return loss

    return steps(step, 4)


@case(legacy=True)
def cycles_between_two_domains():
    def translate():
        return keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                layers.Conv2D(8, 3, padding="same", activation="relu"),
                layers.Conv2D(3, 3, padding="same", activation="tanh"),
            ]
        )

    there, back, judge_a, judge_b = translate(), translate(), critic(), critic()
    optimizers = [keras.optimizers.Adam(2e-3, beta_1=0.5) for _ in range(4)]
    squares = keras.losses.MeanSquaredError()
    a, b = tf.constant(IMAGE[:8]), tf.constant(IMAGE[8:16] * 0.5)

    @tf.function
    def step():
        with tf.GradientTape(persistent=True) as tape:
            fake_b, fake_a = there(a, training=True), back(b, training=True)
            cycle = tf.reduce_mean(tf.abs(a - back(fake_b))) + tf.reduce_mean(
                tf.abs(b - there(fake_a))
            )
            same = tf.reduce_mean(tf.abs(a - back(a))) + tf.reduce_mean(tf.abs(b - there(b)))
            out_a, out_b = judge_a(fake_a), judge_b(fake_b)
            total = [
                squares(tf.ones_like(out), out) + 10.0 * cycle + 5.0 * same
                for out in (out_b, out_a)
            ]
            judged = [
                0.5 * (squares(tf.ones_like(r), r) + squares(tf.zeros_like(f), f))
                for r, f in ((judge_a(a), out_a), (judge_b(b), out_b))
            ]
        models = [there, back, judge_a, judge_b]
        for optimizer, loss, model in zip(optimizers, [*total, *judged], models):
            update(optimizer, tape, loss, model)
        return tf.add_n(total) + tf.add_n(judged)

    return steps(step)


@case(legacy=True)
def image_to_image_with_an_l1_term():
    inputs = keras.Input((8, 8, 3))
    down = layers.Conv2D(8, 4, 2, "same", use_bias=False)(inputs)
    middle = layers.ReLU()(layers.BatchNormalization()(down))
    up = layers.Conv2DTranspose(3, 4, 2, "same", activation="tanh")(middle)
    make = keras.Model(inputs, up)
    pair = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    judge = keras.Model(pair, layers.Conv2D(1, 4)(layers.concatenate(list(pair))))
    first, second = keras.optimizers.Adam(2e-3), keras.optimizers.Adam(2e-3)
    cross = keras.losses.BinaryCrossentropy(from_logits=True)
    x, y = tf.constant(IMAGE[:8]), tf.constant(IMAGE[8:16])

    @tf.function
    def step(n):
        with tf.GradientTape() as make_tape, tf.GradientTape() as judge_tape:
            fake = make(x, training=True)
            real_out = judge([x, y], training=True)
            fake_out = judge([x, fake], training=True)
            loss = cross(tf.ones_like(fake_out), fake_out) + 100 * tf.reduce_mean(tf.abs(y - fake))
            judged = cross(tf.ones_like(real_out), real_out)
            judged += cross(tf.zeros_like(fake_out), fake_out)
        update(first, make_tape, loss, make)
        update(second, judge_tape, judged, judge)
        return loss * tf.cast(n > 0, tf.float32)

    return steps(lambda: step(tf.constant(3)))


@case(legacy=True)
def modulated_and_demodulated_convolution():
    class Modulated(layers.Layer):
        def build(self, shapes):
            start = keras.initializers.RandomNormal(seed=6)
            self.kernel = self.add_weight(shape=(3, 3, 3, 6), initializer=start, name="kernel")
            self.noise = self.add_weight(shape=(6,), initializer="ones", name="noise")
            self.gain = tf.constant((2 / 27) ** 0.5)

        def call(self, inputs):
            x, style = inputs
            modulated = self.kernel[None] * self.gain * (style[:, None, None, :, None] + 1.0)
            norm = tf.math.rsqrt(tf.reduce_sum(modulated**2, (1, 2, 3)) + 1e-8)
            y = tf.nn.conv2d(x * style[:, None, None, :], self.kernel * self.gain, 1, "SAME")
            y *= norm[:, None, None, :]
            y += self.noise * tf.random.stateless_normal((tf.shape(x)[0], 8, 8, 1), (1, 6))
            deviation = tf.math.reduce_std(y, axis=0, keepdims=True)
            spread = tf.zeros_like(y[..., :1]) + tf.reduce_mean(deviation)
            return tf.nn.leaky_relu(tf.concat([y, spread], -1))

    image, code = keras.Input((8, 8, 3)), keras.Input((3,))
    style = layers.Dense(3)(code)
    outputs = layers.Conv2D(3, 1)(Modulated()([image, style]))
    model = keras.Model([image, code], outputs)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    data = [IMAGE, FEATURES[:32, :3]]
    return model.fit(data, IMAGE, epochs=3, verbose=0, shuffle=False).history["loss"][-1]


@case(legacy=True)
def condition_concatenated_as_planes():
    make = keras.Sequential([keras.Input((10,)), layers.Dense(192), layers.Reshape((8, 8, 3))])
    judge = keras.Sequential(
        [keras.Input((8, 8, 7)), layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(1)]
    )
    optimizer = keras.optimizers.Adam(1e-3)
    cross = keras.losses.BinaryCrossentropy(from_logits=True)
    classes = tf.constant(TOKENS[:16, 0] % 4)

    @tf.function
    def step():
        hot = tf.one_hot(classes, 4)
        planes = tf.repeat(hot[:, :, None, None], repeats=[64])
        planes = tf.reshape(planes, (-1, 8, 8, 4))
        fake = make(tf.concat([noise(5), hot], axis=1))
        both = tf.concat([tf.concat([fake, planes], -1), tf.concat([IMAGE[:16], planes], -1)], 0)
        labels = tf.concat([tf.ones((16, 1)), tf.zeros((16, 1))], 0)
        with tf.GradientTape() as tape:
            loss = cross(labels, judge(both))
        update(optimizer, tape, loss, judge)
        return loss

    return steps(step)


@case(legacy=True)
def discriminator_averaged_and_augmented():
    make, judge = generator(), critic()
    average = keras.models.clone_model(make)
    average.set_weights(make.get_weights())
    optimizer = keras.optimizers.Adam(1e-3)
    chance = tf.Variable(0.2)

    @tf.function
    def step():
        images = tf.constant(IMAGE[:16])
        mask = tf.random.stateless_uniform((16, 1, 1, 1), (1, 8)) < chance
        mask = tf.cast(mask, tf.float32)
        shifted = mask * tf.image.flip_left_right(images) + (1.0 - mask) * images
        with tf.GradientTape() as tape:
            fake, real = judge(make(noise(3), training=True)), judge(shifted)
            loss = tf.reduce_mean(tf.nn.softplus(fake) + tf.nn.softplus(-real))
        update(optimizer, tape, loss, judge)
        chance.assign(tf.clip_by_value(chance + 0.01 * tf.reduce_mean(tf.sign(real)), 0.0, 1.0))
        for weight, mean in zip(make.weights, average.weights):
            mean.assign(0.9 * mean + 0.1 * weight)
        return loss

    return steps(step) + float(chance)
