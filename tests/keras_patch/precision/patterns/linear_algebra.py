"""Operations that have no bfloat16 kernel, inside layers: decompositions, spectra, sorting."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from registry import case, keras
from training import CLASSES, FEATURES, fit, layer, train

layers = keras.layers


@case(legacy=True)
def inverse_and_cholesky_of_a_gram_matrix():
    def call(self, x):
        gram = tf.matmul(x, x, transpose_a=True) + 10.0 * tf.eye(12)
        factor = tf.linalg.diag_part(tf.linalg.cholesky(gram))
        return tf.matmul(x, tf.linalg.inv(gram)) + factor * 0.01

    return train(layer(call))


@case(legacy=True)
def short_time_spectrum():
    return train(layer(lambda self, x: tf.abs(tf.signal.stft(x, 8, 4))))


@case(legacy=True)
def mel_spectrum_of_sound():
    mel = tf.signal.linear_to_mel_weight_matrix(6, 9, 8000)

    def call(self, x):
        power = tf.square(tf.abs(tf.signal.stft(x, 16, 4, 16, pad_end=True)))
        logs = tf.math.log(tf.tensordot(power, mel, 1) + 1e-3)
        return tf.signal.mfccs_from_log_mel_spectrograms(logs)[..., :4]

    return train(lambda x: layer(call)(layers.Dense(32)(x)))


@case(legacy=True)
def filter_in_the_frequency_domain():
    class Filtered(layers.Layer):
        def build(self, shape):
            self.real = self.add_weight(shape=(7,), initializer="ones", name="real")
            self.imaginary = self.add_weight(shape=(7,), name="imaginary", initializer="zeros")

        def call(self, x):
            spectrum = tf.signal.rfft(x)
            kernel = tf.complex(tf.cast(self.real, tf.float32), tf.cast(self.imaginary, tf.float32))
            return tf.signal.irfft(spectrum * kernel, fft_length=[12])

    return train(Filtered())


@case(legacy=True)
def gaussian_process_layer():
    class Process(layers.Layer):
        def build(self, shape):
            points = tf.random.stateless_normal((6, shape[-1]), (4, 4))
            self.points = tf.Variable(points)
            self.length = tf.Variable(2.0)
            self.values = tf.Variable(tf.random.stateless_normal((6, 4), (5, 5)))

        def kernel(self, a, b):
            squares = tf.reduce_sum((a[:, None] - b[None]) ** 2, -1)
            return tf.exp(-0.5 * squares / self.length**2)

        def call(self, x):
            factor = tf.linalg.cholesky(self.kernel(self.points, self.points) + 0.1 * tf.eye(6))
            weights = tf.linalg.cholesky_solve(factor, self.values)
            solved = tf.linalg.triangular_solve(factor, self.kernel(self.points, x))
            spread = 1.0 - tf.reduce_sum(solved**2, 0)
            return tf.concat([self.kernel(x, self.points) @ weights, spread[:, None]], 1)

    return train(Process())


@case(legacy=True)
def special_functions():
    def call(self, x):
        positive = tf.nn.softplus(x) + 0.5
        gamma = tf.math.lgamma(positive) - tf.math.digamma(positive) * 0.1
        beta = tf.math.erf(x) + tf.math.expm1(-positive) + tf.math.log1p(positive)
        return gamma + beta + tf.math.xlogy(positive, positive) + tf.math.bessel_i0e(x)

    return train(layer(call))


@case(legacy=True)
def sorted_ranked_and_counted():
    def call(self, x):
        top, index = tf.math.top_k(x, 4)
        order = tf.cast(tf.argsort(tf.argsort(x, -1), -1), x.dtype)
        edges = tf.constant([-1.0, 0.0, 1.0])
        bins = tf.searchsorted(edges, tf.reshape(x, [-1]))
        counts = tf.math.bincount(bins, minlength=4, maxlength=4, dtype=tf.float32)
        hot = tf.reduce_sum(tf.one_hot(index, 12), 1)
        return tf.concat([top, order * 0.1, hot * x], 1) + counts[0] / 1000.0

    return train(layer(call))


@case(legacy=True)
def soft_orthogonality_regularizer():
    class Orthogonal(keras.regularizers.Regularizer):
        def __init__(self, features):
            self.eye = tf.eye(features)

        def __call__(self, x):
            x = tf.reshape(x, (-1, 4, 4))
            gram = tf.tensordot(x, x, axes=(2, 2))
            gram = tf.reshape(tf.reduce_mean(gram, axis=2), (-1, 4, 4))
            return tf.reduce_sum(0.001 * tf.square(gram - self.eye))

    points = keras.Input((8, 4))
    x = layers.GlobalMaxPooling1D()(layers.Conv1D(16, 1, activation="relu")(points))
    bias = keras.initializers.Constant(np.eye(4).flatten())
    x = layers.Dense(
        16,
        "linear",
        kernel_initializer="zeros",
        bias_initializer=bias,
        activity_regularizer=Orthogonal(4),
    )(x)
    turned = layers.Dot(axes=(2, 1))([points, layers.Reshape((4, 4))(x)])
    x = layers.GlobalMaxPooling1D()(layers.Conv1D(16, 1, activation="relu")(turned))
    model = keras.Model(points, layers.Dense(4, "softmax")(x))
    clouds = np.random.default_rng(4).normal(size=(48, 8, 4)).astype("float32")
    return fit(model, clouds, CLASSES[:48])


@case(legacy=True)
def singular_values_and_determinants():
    def call(self, x):
        square = tf.reshape(x, (-1, 3, 4))
        values = tf.linalg.svd(square, compute_uv=False)
        gram = tf.matmul(square, square, transpose_b=True) + tf.eye(3)
        solved = tf.linalg.solve(gram, tf.ones((tf.shape(x)[0], 3, 1)))
        return tf.concat([values, tf.linalg.logdet(gram)[:, None], tf.squeeze(solved, -1)], 1)

    return train(layer(call))


@case(legacy=True)
def complex_numbers_beside_the_features():
    def call(self, x):
        angle = x * tf.constant(np.pi, tf.float32)
        turned = tf.cast(x, tf.complex64) * tf.exp(1j * tf.cast(angle, tf.complex64))
        return tf.concat([tf.math.real(turned), tf.math.imag(turned), tf.math.angle(turned)], 1)

    return train(layer(call))


@case(legacy=True)
def float64_inside_a_layer():
    def call(self, x):
        wide = tf.cast(x, tf.float64)
        total = tf.cumsum(wide, -1) + tf.constant(1e-9, tf.float64)
        return tf.cast(total / tf.cast(tf.range(1, 13), tf.float64), tf.float32) + 0.5 * x

    return train(layer(call))


@case(legacy=True)
def float16_and_integers_inside_a_layer():
    def call(self, x):
        half = tf.cast(tf.cast(x, tf.float16) * tf.constant(0.5, tf.float16), tf.float32)
        code = tf.cast(tf.clip_by_value(tf.round(x * 8.0), -128, 127), tf.int8)
        return half + tf.cast(code, tf.float32) / 8.0 + x * tf.cast(tf.size(x) > 0, x.dtype)

    return train(layer(call))


@case
def numpy_style_api():
    ops = keras.ops

    def call(self, x):
        table = ops.cast(ops.arange(12), "float32") / 12
        y = ops.where(x > ops.zeros_like(x), x, ops.ones((12,)) * 0.1)
        y = ops.concatenate([y, ops.broadcast_to(table, ops.shape(x))], -1)
        y = ops.matmul(y, ops.eye(24)) + ops.norm(ops.reshape(x, (-1, 3, 4)), axis=(1, 2))[:, None]
        return ops.einsum("bi,ij->bj", y, ops.ones((24, 6)) * 0.1)

    return train(layer(call))


@case
def decompositions_of_keras_ops():
    ops = keras.ops

    def call(self, x):
        gram = ops.matmul(ops.transpose(x), x) + ops.eye(12) * 8.0
        factor = ops.linalg.cholesky(gram)
        solved = ops.linalg.solve(gram, ops.ones((12, 1)))
        real, _ = ops.fft((x, ops.zeros_like(x)))
        return ops.concatenate([real, x * ops.squeeze(solved, -1), x @ factor], -1)

    return train(layer(call))


@case(legacy=True)
def interpolated_on_a_grid():
    grid = tf.linspace(-2.0, 2.0, 9)

    def build(self, shape):
        self.values = self.add_weight(shape=(9, 12), initializer="glorot_uniform", name="values")

    def call(self, x):
        near = tf.maximum(1.0 - tf.abs(x[:, None, :] - grid[None, :, None]) / 0.5, 0.0)
        low = tf.cast(tf.floor((x + 2.0) / 0.5), tf.int32)
        inside = tf.cast((low >= 0) & (low < 8), tf.float32)
        return (
            tf.reduce_sum(near * self.values, 1)
            + tf.gather(grid, tf.clip_by_value(low, 0, 8)) * inside
        )

    return train(layer(call, build))


@case(legacy=True)
def sinkhorn_balanced_matrix():
    def call(self, x):
        logs = tf.reshape(x, (-1, 3, 4)) / tf.constant(0.5)
        for _ in range(4):
            logs -= tf.reduce_logsumexp(logs, 1, keepdims=True)
            logs -= tf.reduce_logsumexp(logs, 2, keepdims=True)
        return tf.exp(logs) * tf.math.log(4.0)

    return train(layer(call))


@case(legacy=True)
def sparse_matrix_product():
    at = [[0, 1], [1, 0], [2, 5], [11, 3]]
    matrix = tf.sparse.SparseTensor(at, tf.constant([1.0, 0.5, -1.0, 2.0]), (12, 12))

    def call(self, x):
        mixed = tf.transpose(tf.sparse.sparse_dense_matmul(matrix, x, adjoint_b=True))
        return x + mixed

    return train(layer(call))


@case(legacy=True)
def features_hashed_and_bucketed_in_a_model():
    number = keras.Input((1,))
    bucket = layers.Discretization([-0.5, 0.0, 0.5], output_mode="one_hot")(number)
    word = keras.Input((1,), dtype="string")
    hashed = layers.Embedding(16, 4)(layers.Hashing(16)(word))
    x = layers.concatenate(
        [bucket, layers.Flatten()(hashed), layers.Normalization(mean=0.1, variance=2.0)(number)]
    )
    model = keras.Model([number, word], layers.Dense(4, "softmax")(x))
    words = tf.constant([[f"w{i}"] for i in CLASSES])
    # Keras's Adam updates a row incorrectly if its id repeats in a batch.
    model.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    data = tf.data.Dataset.from_tensor_slices(((FEATURES[:, :1], words), CLASSES)).batch(32)
    return model.fit(data, epochs=3, verbose=0).history["loss"][-1]
