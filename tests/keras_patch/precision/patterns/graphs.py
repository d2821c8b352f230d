"""Graph networks, point clouds and sets: gathers and segment sums over index tables."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from registry import case, keras
from training import CLASSES, FEATURES, fit, steps

layers = keras.layers
_random = np.random.default_rng(2)
EDGES = _random.integers(0, 24, (60, 2))
NODES = FEATURES[:24]
WEIGHTS = _random.random(60).astype("float32")


def dense(units, width):
    return keras.Sequential(
        [keras.Input((width,)), layers.Dense(units, "gelu"), layers.Dense(units)]
    )


def train_nodes(model):
    """Classify all nodes in steps of one batch; return the last loss."""
    optimizer = keras.optimizers.Adam(0.01)
    cross = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    labels = CLASSES[:24]

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = cross(labels, model(tf.range(24)))
        weights = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        return loss

    return steps(step)


@case(legacy=True)
def convolution_over_weighted_edges():
    class Convolution(layers.Layer):
        def __init__(self):
            super().__init__()
            self.prepare, self.join = dense(12, 12), dense(12, 24)

        def call(self, inputs):
            nodes, edges, weights = inputs
            target, source = edges[0], edges[1]
            messages = self.prepare(tf.gather(nodes, source))
            messages = messages * tf.expand_dims(weights, -1)
            summed = tf.math.unsorted_segment_mean(
                messages, target, num_segments=tf.shape(nodes)[0]
            )
            return tf.nn.l2_normalize(self.join(tf.concat([nodes, summed], 1)), axis=-1)

    class Classifier(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = Convolution(), Convolution()
            self.out = layers.Dense(4)
            self.weights_of_edges = tf.constant(WEIGHTS) / tf.math.reduce_sum(WEIGHTS)

        def call(self, indices):
            graph = tf.transpose(EDGES), self.weights_of_edges * 60.0
            x = tf.constant(NODES)
            x = self.first((x, *graph)) + x
            x = self.second((x, *graph)) + x
            return self.out(tf.gather(x, indices))

    return train_nodes(Classifier())


@case(legacy=True)
def attention_over_edges():
    class Attention(layers.Layer):
        def build(self, shape):
            start = keras.initializers.GlorotUniform(seed=4)
            self.w = self.add_weight(shape=(12, 8), initializer=start, name="w")
            self.a = self.add_weight(shape=(16, 1), initializer=start, name="a")

        def call(self, nodes):
            turned = tf.matmul(nodes, self.w)
            pairs = tf.reshape(tf.gather(turned, EDGES), (tf.shape(EDGES)[0], -1))
            scores = tf.squeeze(tf.nn.leaky_relu(tf.matmul(pairs, self.a)), -1)
            scores = tf.math.exp(tf.clip_by_value(scores, -2, 2))
            sums = tf.math.unsorted_segment_sum(scores, EDGES[:, 0], tf.reduce_max(EDGES[:, 0]) + 1)
            counts = tf.math.bincount(tf.cast(EDGES[:, 0], "int32"))
            scores = scores / tf.gather(sums, EDGES[:, 0])
            scores /= tf.cast(tf.gather(counts, EDGES[:, 0]), tf.float32)
            neighbours = tf.gather(turned, EDGES[:, 1])
            return tf.math.unsorted_segment_sum(neighbours * scores[:, None], EDGES[:, 0], 24)

    class Classifier(keras.Model):
        def __init__(self):
            super().__init__()
            self.attention, self.out = Attention(), layers.Dense(4)

        def call(self, indices):
            return self.out(tf.gather(self.attention(tf.constant(NODES)), indices))

    return train_nodes(Classifier())


@case(legacy=True)
def messages_passed_with_a_gated_unit():
    class Passing(layers.Layer):
        def __init__(self):
            super().__init__()
            self.cell = layers.GRUCell(12)

        def build(self, shape):
            start = keras.initializers.RandomNormal(0, 0.1, seed=8)
            self.kernel = self.add_weight(shape=(1, 144), initializer=start, name="kernel")

        def call(self, nodes):
            bonds = tf.constant(WEIGHTS)[:, None]
            state = nodes
            for _ in range(2):
                matrices = tf.reshape(tf.matmul(bonds, self.kernel), (-1, 12, 12))
                sent = tf.expand_dims(tf.gather(state, EDGES[:, 1]), -1)
                sent = tf.squeeze(tf.matmul(matrices, sent), -1)
                received = tf.math.unsorted_segment_sum(sent, EDGES[:, 0], 24)
                state, _ = self.cell(received, [state])
            return state

    class Classifier(keras.Model):
        def __init__(self):
            super().__init__()
            self.passing, self.out = Passing(), layers.Dense(4)

        def call(self, indices):
            state = self.passing(tf.constant(NODES))
            pooled = tf.math.segment_mean(state, tf.range(24) // 4)
            return self.out(tf.gather(state, indices)) + tf.repeat(self.out(pooled), 4, axis=0)

    return train_nodes(Classifier())


@case(legacy=True)
def adjacency_normalized_by_degrees():
    adjacency = np.eye(24, dtype="float32")
    adjacency[EDGES[:, 0], EDGES[:, 1]] = 1.0
    degrees = tf.linalg.diag(1.0 / tf.sqrt(tf.reduce_sum(adjacency, 1)))
    laplacian = degrees @ adjacency @ degrees

    class Classifier(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = layers.Dense(8, use_bias=False), layers.Dense(4)

        def call(self, indices):
            hidden = tf.nn.relu(laplacian @ self.first(NODES))
            return tf.gather(laplacian @ self.second(hidden), indices)

    return train_nodes(Classifier())


@case(legacy=True)
def relational_convolution_of_molecules():
    class Relational(layers.Layer):
        def build(self, shapes):
            self.w = self.add_weight(shape=(2, shapes[1][-1], 6), name="w")

        def call(self, inputs):
            adjacency, features = inputs
            mixed = tf.matmul(adjacency, features[:, None, :, :])
            return tf.nn.leaky_relu(tf.reduce_sum(tf.matmul(mixed, self.w), axis=1))

    adjacency, features = keras.Input((2, 3, 3)), keras.Input((3, 4))
    x = Relational()([adjacency, features])
    logits = layers.Dense(18)(layers.Flatten()(x))
    logits = layers.Reshape((2, 3, 3))(logits)
    symmetric = layers.Lambda(lambda t: tf.nn.softmax((t + tf.transpose(t, (0, 1, 3, 2))) / 2, 1))
    model = keras.Model([adjacency, features], symmetric(logits))
    bonds = np.random.default_rng(5).random((96, 2, 3, 3)).astype("float32")
    return fit(model, [bonds, FEATURES.reshape(-1, 3, 4)], bonds, "mse")


@case(legacy=True)
def nearest_neighbours_of_points():
    class EdgeConvolution(layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = layers.Dense(8, "relu")

        def call(self, points):
            squares = tf.reduce_sum(points**2, -1, keepdims=True)
            products = tf.matmul(points, points, transpose_b=True)
            distance = squares - 2.0 * products + tf.transpose(squares, (0, 2, 1))
            _, near = tf.math.top_k(-distance, k=2)
            neighbours = tf.gather(points, near, batch_dims=1)
            centre = tf.tile(points[:, :, None], (1, 1, 2, 1))
            return tf.reduce_max(self.inner(tf.concat([centre, neighbours - centre], -1)), 2)

    inputs = keras.Input((4, 3))
    x = layers.GlobalMaxPooling1D()(EdgeConvolution()(inputs))
    model = keras.Model(inputs, layers.Dense(4, "softmax")(x))
    return fit(model, FEATURES.reshape(-1, 4, 3), CLASSES)


@case(legacy=True)
def walks_embedded_with_negative_samples():
    target, context = keras.Input((), dtype="int32"), keras.Input((), dtype="int32")
    vectors = layers.Embedding(24, 8)
    logits = layers.Dot(axes=1)([vectors(target), layers.Embedding(24, 8)(context)])
    model = keras.Model([target, context], logits)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    labels = (np.arange(60) % 2).astype("float32")
    value = fit(model, [EDGES[:, 0], EDGES[:, 1]], labels, loss)
    table = vectors.get_weights()[0]
    assert table.dtype == np.float32
    near = tf.math.top_k(tf.matmul(tf.nn.l2_normalize(table, 1), table, transpose_b=True), 3)
    return value + float(near.indices.shape[1])


@case(legacy=True)
def spatial_graph_in_a_recurrent_forecast():
    adjacency = tf.constant(np.eye(4) + np.eye(4, k=1), tf.float32)

    class Forecast(layers.Layer):
        def __init__(self):
            super().__init__()
            self.lstm, self.out = layers.LSTM(8), layers.Dense(3)

        def build(self, shape):
            self.w = tf.Variable(
                tf.random.stateless_normal((1, 5), (5, 1)), trainable=True, dtype=tf.float32
            )

        def call(self, x):
            x = tf.transpose(x[..., None], [2, 0, 1, 3])
            x = tf.math.unsorted_segment_sum(tf.gather(x, [1, 2, 3, 0]), [0, 1, 2, 3], 4) + x
            x = tf.nn.relu(tf.einsum("nm,mbtf->nbtf", adjacency, tf.matmul(x, self.w)))
            shape = tf.shape(x)
            flat = tf.reshape(x, (-1, 3, 5))
            y = self.out(self.lstm(flat))
            return tf.transpose(tf.reshape(y, (shape[0], shape[1], 3)), [1, 2, 0])

    inputs = keras.Input((3, 4))
    y = np.cumsum(FEATURES.reshape(-1, 3, 4), 1)
    return fit(keras.Model(inputs, Forecast()(inputs)), FEATURES.reshape(-1, 3, 4), y, "mse")
