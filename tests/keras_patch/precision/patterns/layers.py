"""Layers whose code combines float32 values with their inputs."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from registry import case, keras
from training import CLASSES, FEATURES, IMAGES, fit, layer, train

layers = keras.layers


@case
def noise_scaled_and_added():
    def call(self, x):
        noise = keras.random.normal(keras.ops.shape(x), seed=4)
        return x + keras.ops.exp(0.1 * x) * noise

    return train(layer(call))


@case(legacy=True)
def gumbel_softmax():
    def call(self, x):
        uniform = tf.random.stateless_uniform(tf.shape(x), (3, 1), minval=1e-3)
        return tf.nn.softmax((x - tf.math.log(-tf.math.log(uniform))) / 0.5)

    return train(layer(call))


@case(legacy=True)
def table_of_sines_added():
    table = tf.constant(np.sin(np.arange(12)), tf.float32)

    def call(self, x):
        return x * tf.sqrt(tf.cast(tf.shape(x)[-1], tf.float32)) + table

    return train(layer(call))


@case(legacy=True)
def lambda_that_subtracts_a_constant():
    return train(layers.Lambda(lambda x: (x - tf.constant([0.25] * 12)) / np.float32(1.5)))


@case(legacy=True)
def codebook_kept_in_a_variable():
    def build(self, shape):
        start = tf.random.stateless_normal((shape[-1], 8), (2, 7))
        self.codes = tf.Variable(start, trainable=True, name="codes")

    def call(self, x):
        squares = tf.reduce_sum(x**2, 1, keepdims=True) + tf.reduce_sum(self.codes**2, 0)
        nearest = tf.argmin(squares - 2 * tf.matmul(x, self.codes), 1)
        chosen = tf.matmul(tf.one_hot(nearest, 8), self.codes, transpose_b=True)
        self.add_loss(0.25 * tf.reduce_mean((tf.stop_gradient(chosen) - x) ** 2))
        self.add_loss(tf.reduce_mean((chosen - tf.stop_gradient(x)) ** 2))
        return x + tf.stop_gradient(chosen - x)

    return train(layer(call, build))


@case(legacy=True)
def angular_margin_head():
    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 6), name="w")

    def call(self, x):
        cosine = tf.matmul(tf.nn.l2_normalize(x, 1), tf.nn.l2_normalize(self.w, 0))
        angle = tf.math.acos(tf.clip_by_value(cosine, -1 + 1e-6, 1 - 1e-6))
        return 4.0 * tf.cos(angle + 0.3)

    return train(layer(call, build))


@case(legacy=True)
def concatenated_with_ones():
    def call(self, x):
        return tf.concat([x, tf.ones((tf.shape(x)[0], 2)), tf.zeros_like(x)], 1)

    return train(layer(call))


@case(legacy=True)
def chosen_by_where_then_scattered():
    def call(self, x):
        y = tf.where(x > 0.0, x, tf.fill(tf.shape(x), 0.1))
        return tf.tensor_scatter_nd_update(y, [[0]], tf.ones((1, 12)))

    return train(layer(call))


@case(legacy=True)
def einsum_with_a_constant_matrix():
    matrix = tf.constant(np.eye(12, k=1) + np.eye(12), tf.float32)
    return train(layer(lambda self, x: tf.einsum("bi,ij->bj", x, matrix)))


@case(legacy=True)
def weight_standardized_convolution():
    class Standardized(layers.Conv2D):
        def call(self, x):
            mean, variance = tf.nn.moments(tf.convert_to_tensor(self.kernel), [0, 1, 2])
            kernel = (self.kernel - mean) / tf.sqrt(variance + 1e-5)
            return tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME") + self.bias)

    inputs = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(Standardized(6, 3)(inputs))
    return fit(keras.Model(inputs, layers.Dense(4, "softmax")(x)), IMAGES, CLASSES[:32])


@case(legacy=True)
def spectral_norm_by_power_iteration():
    class Normed(layers.Layer):
        def build(self, shape):
            self.w = self.add_weight(shape=(shape[-1], 12), name="w")
            self.u = self.add_weight(shape=(1, 12), name="u", trainable=False, initializer="ones")

        def call(self, x):
            w, u = tf.convert_to_tensor(self.w), tf.convert_to_tensor(self.u)
            v = tf.math.l2_normalize(tf.matmul(u, w, transpose_b=True))
            u = tf.math.l2_normalize(tf.matmul(v, w))
            self.u.assign(u)
            sigma = tf.matmul(tf.matmul(v, w), u, transpose_b=True)
            return tf.matmul(x, w / sigma)

    return train(Normed())


@case(legacy=True)
def radial_basis_functions():
    def build(self, shape):
        start = keras.initializers.RandomNormal(seed=3)
        self.centres = self.add_weight(shape=(7, shape[-1]), initializer=start, name="centres")
        self.width = tf.constant(0.3)

    def call(self, x):
        squares = tf.reduce_sum(tf.square(x[:, None, :] - self.centres), -1)
        return tf.exp(-self.width * squares)

    return train(layer(call, build))


@case(legacy=True)
def antirectifier_with_norm():
    def call(self, x):
        x = x - tf.reduce_mean(x, -1, keepdims=True)
        x = tf.math.l2_normalize(x, -1)
        return tf.concat([tf.nn.relu(x), tf.nn.relu(-x)], -1) * tf.constant(2.0)

    return train(layer(call))


@case(legacy=True)
def sparsemax_gate_as_in_tabnet():
    def call(self, x):
        ordered = tf.sort(x, direction="DESCENDING")
        cumulated = tf.cumsum(ordered, -1)
        k = tf.range(1, 13, dtype=tf.float32)
        support = tf.reduce_sum(tf.cast(1.0 + k * ordered > cumulated, tf.int32), -1)
        at = tf.stack([tf.range(tf.shape(x)[0]), support - 1], 1)
        tau = (tf.gather_nd(cumulated, at) - 1.0) / tf.cast(support, tf.float32)
        mask = tf.maximum(x - tau[:, None], 0.0)
        self.add_loss(0.01 * tf.reduce_mean(tf.reduce_sum(-mask * tf.math.log(mask + 1e-5), 1)))
        return x * mask

    return train(layer(call))


@case(legacy=True)
def soft_decision_tree():
    def build(self, shape):
        self.used = tf.constant(np.eye(12)[[0, 2, 3, 5, 7, 11]].T, tf.float32)
        self.gate = layers.Dense(8, "sigmoid")
        self.leaves = tf.Variable(tf.random.stateless_normal((8, 4), (1, 1)), trainable=True)

    def call(self, x):
        gates = self.gate(tf.matmul(x, self.used))[:, :, None]
        gates = tf.concat([gates, 1 - gates], 2)
        route = tf.ones([tf.shape(x)[0], 1, 1])
        begin = 1
        for level in range(3):
            route = tf.reshape(tf.repeat(route, 2, axis=2), [-1, 2**level, 2])
            route *= gates[:, begin : begin + 2**level]
            route = tf.reshape(route, [-1, 2 ** (level + 1), 1])
            begin = 2 ** (level + 1) - 1
        return tf.matmul(tf.reshape(route, [-1, 8]), tf.nn.softmax(self.leaves))

    return train(layer(call, build))


@case(legacy=True)
def gated_residual_with_variable_selection():
    class Gated(layers.Layer):
        def __init__(self):
            super().__init__()
            self.value, self.gate = layers.Dense(12, "elu"), layers.Dense(12, "sigmoid")
            self.weigh, self.norm = layers.Dense(12, "softmax"), layers.LayerNormalization()

        def call(self, x):
            weights = tf.expand_dims(self.weigh(x), -1)
            stacked = tf.stack([x, tf.ones_like(x, dtype=tf.float32)], -1)
            mixed = tf.squeeze(tf.matmul(weights, stacked, transpose_a=True), 1)
            return self.norm(x + self.gate(x) * self.value(x)) + tf.reduce_sum(mixed, -1)[:, None]

    return train(Gated())


@case
def activation_written_with_ops():
    def squared_swish(x):
        return keras.ops.square(x) * keras.ops.sigmoid(keras.ops.convert_to_tensor(1.2) * x)

    return train(layers.Dense(12, activation=squared_swish))


@case(legacy=True)
def statistics_updated_in_a_variable():
    class Whitened(layers.Layer):
        def build(self, shape):
            self.mean = tf.Variable(tf.zeros(shape[-1]), trainable=False)

        def call(self, x, training=False):
            batch = tf.reduce_mean(x, 0)
            if training:
                self.mean.assign(0.9 * self.mean + 0.1 * batch)
                self.mean.assign_add(0.01 * batch)
            return (x - self.mean) / tf.math.reduce_std(x + 0.01)

    return train(Whitened())


@case(legacy=True)
def binary_weights_with_scale():
    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 12), name="w")

    def call(self, x):
        scale = tf.reduce_mean(tf.abs(self.w), 0)
        sign = tf.where(self.w >= 0, tf.ones_like(self.w), -tf.ones_like(self.w))
        w = self.w + tf.stop_gradient(scale * sign - self.w)
        return tf.matmul(x, w)

    return train(layer(call, build))


@case(legacy=True)
def float32_layer_in_the_middle():
    class Exact(layers.Layer):
        def call(self, x):
            assert x.dtype == tf.float32, x.dtype
            return tf.linalg.matvec(tf.linalg.inv(tf.eye(12) * 2.0), x)

    return train(Exact(dtype="float32"))


@case(legacy=True)
def residual_added_in_float32():
    class Residual(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = keras.Sequential([layers.Dense(24, "relu"), layers.Dense(12)])

        def call(self, inputs):
            return inputs + self.inner(inputs)

    model = Residual()
    return fit(model, FEATURES, np.roll(FEATURES, 1, 0), "mse")
