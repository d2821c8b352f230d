"""Loops, branches and Python functions inside layers, with float32 state and the input."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from registry import case, keras
from training import CLASSES, FEATURES, fit, layer, train

layers = keras.layers


@case(legacy=True)
def while_loop_and_scan():
    def call(self, x):
        state = tf.zeros((tf.shape(x)[0], 12))
        _, state = tf.while_loop(
            lambda i, s: i < 3, lambda i, s: (i + 1, tf.tanh(s + x)), (0, state)
        )
        return tf.scan(lambda s, row: s * 0.5 + row, x, initializer=tf.zeros((12,))) + state

    return train(layer(call))


@case(legacy=True)
def map_fn_with_a_signature():
    def call(self, x):
        return tf.map_fn(lambda row: row * 2.0, x, fn_output_signature=tf.float32)

    return train(layer(call))


@case(legacy=True)
def map_fn_over_a_pair():
    def call(self, x):
        scale = tf.linspace(0.5, 1.5, tf.shape(x)[0])
        return tf.map_fn(lambda both: both[0] * both[1], (x, scale), fn_output_signature=tf.float32)

    return train(layer(call))


@case(legacy=True)
def numpy_function_inside():
    def call(self, x):
        halved = tf.numpy_function(
            lambda a: (np.asarray(a) * 0.5).astype("float32"), [x], tf.float32
        )
        return x + tf.ensure_shape(halved, x.shape)

    return train(layer(call))


@case(legacy=True)
def py_function_inside():
    def centred(rows):
        return rows - float(np.median(rows.numpy()))

    def call(self, x):
        return tf.ensure_shape(tf.py_function(centred, [x], tf.float32), (None, 12))

    return train(layer(call))


@case(legacy=True)
def tensor_array_written_in_a_loop():
    @tf.function
    def smoothed(x):
        rows = tf.TensorArray(tf.float32, size=12)
        state = tf.zeros((tf.shape(x)[0],))
        for i in tf.range(12):
            state = 0.9 * state + x[:, i]
            rows = rows.write(i, state)
        return tf.ensure_shape(tf.transpose(rows.stack()), (None, 12))

    return train(layer(lambda self, x: smoothed(x)))


@case(legacy=True)
def cond_with_branches_of_both_types():
    def call(self, x):
        return tf.cond(
            tf.reduce_mean(x) > 0.1, lambda: x * 0.5, lambda: tf.zeros((tf.shape(x)[0], 12))
        ) + tf.cond(tf.constant(True), lambda: x, lambda: x + tf.ones_like(x))

    return train(layer(call))


@case(legacy=True)
def branches_written_in_python():
    @tf.function
    def shift(x):
        total = tf.constant(0.0)
        if tf.reduce_max(x) > 0.0:
            total = tf.reduce_mean(tf.abs(x))
        while total > 0.2:
            total = total * 0.5
        return x + total

    return train(layer(lambda self, x: shift(x)))


@case(legacy=True)
def switch_case_over_experts():
    experts = [lambda x: x * 1.5, lambda x: tf.zeros_like(x) + 0.5, lambda x: tf.tanh(x)]

    def call(self, x):
        chosen = tf.argmax(tf.reduce_sum(x, 0))
        branches = [lambda e=e: tf.cast(e(x), tf.float32) for e in experts]
        return tf.switch_case(tf.cast(chosen % 3, tf.int32), branches)

    return train(layer(call))


@case
def loops_of_keras_ops():
    ops = keras.ops

    def call(self, x):
        def step(carry, row):
            carry = 0.7 * carry + row
            return carry, carry * 2.0

        _, rows = ops.scan(step, ops.zeros((12,)), x)
        total = ops.fori_loop(0, 3, lambda i, s: s * 0.5 + x, ops.zeros_like(rows))
        _, looped = ops.while_loop(
            lambda i, s: i < 2, lambda i, s: (i + 1, s + x), (0, ops.zeros_like(total))
        )
        return ops.cond(ops.mean(x) > 100.0, lambda: total, lambda: rows + looped)

    return train(layer(call))


@case(legacy=True)
def recurrent_cell_with_its_own_state():
    class Cell(layers.Layer):
        def __init__(self):
            super().__init__()
            self.state_size, self.output_size = 8, 8

        def build(self, shape):
            self.w = self.add_weight(shape=(shape[-1], 8), name="w")
            self.u = self.add_weight(shape=(8, 8), name="u", initializer="orthogonal")
            self.decay = tf.constant(np.linspace(0.5, 0.9, 8), tf.float32)
            self.built = True

        def call(self, x, states):
            fresh = tf.tanh(tf.matmul(x, self.w) + tf.matmul(states[0], self.u))
            state = self.decay * states[0] + (1 - self.decay) * fresh
            return state, [state]

    inputs = keras.Input((4, 3))
    model = keras.Sequential([inputs, layers.RNN(Cell()), layers.Dense(4, "softmax")])
    return fit(model, FEATURES.reshape(-1, 4, 3), CLASSES)


@case(legacy=True)
def forward_algorithm_of_a_crf():
    class Crf(layers.Layer):
        def build(self, shape):
            self.transitions = self.add_weight(shape=(4, 4), name="transitions")

        def call(self, x, tags):
            scores = tf.transpose(x, [1, 0, 2])

            def step(alpha, score):
                paths = alpha[:, :, None] + self.transitions + score[:, None, :]
                return tf.reduce_logsumexp(paths, 1)

            alphas = tf.scan(step, scores[1:], initializer=tf.cast(scores[0], tf.float32))
            hot = tf.one_hot(tags, 4)
            gold = tf.reduce_sum(hot * x, [1, 2])
            gold += tf.einsum("bti,ij,btj->b", hot[:, :-1], self.transitions, hot[:, 1:])
            self.add_loss(tf.reduce_mean(tf.reduce_logsumexp(alphas[-1], 1) - gold))
            return x

    tokens, tags = keras.Input((5,), dtype="int32"), keras.Input((5,), dtype="int32")
    scores = layers.Dense(4)(layers.Embedding(9, 8)(tokens))
    model = keras.Model([tokens, tags], Crf()(scores, tags))
    model.compile(keras.optimizers.Adam(0.05))
    data = np.random.default_rng(8).integers(0, 4, (2, 32, 5))
    return model.fit(list(data), epochs=3, verbose=0, shuffle=False).history["loss"][-1]


@case(legacy=True)
def fold_and_vectorized_map():
    def call(self, x):
        total = tf.foldl(lambda s, row: s + tf.square(row), x, initializer=tf.zeros((12,)))
        outer = tf.vectorized_map(lambda row: tf.tensordot(row, tf.ones((12,)), 1) + row, x)
        return outer / tf.sqrt(total + 1.0)

    return train(layer(call))


@case(legacy=True)
def fixed_point_solved_in_a_loop():
    def build(self, shape):
        self.w = self.add_weight(
            shape=(12, 12), name="w", initializer=keras.initializers.RandomNormal(0, 0.05, seed=2)
        )

    def call(self, x):
        def go_on(i, z, change):
            return tf.logical_and(i < 20, change > 1e-2)

        def once(i, z, change):
            after = tf.tanh(tf.matmul(z, self.w) + x)
            return i + 1, after, tf.norm(after - z) / (tf.norm(z) + 1e-6)

        start = (tf.constant(0), tf.zeros_like(x), tf.constant(1.0))
        return tf.while_loop(go_on, once, start, maximum_iterations=20)[1]

    return train(layer(call, build))
