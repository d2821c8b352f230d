"""Tables of features: factorization, towers, crosses, trees, embeddings of categories."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from registry import case, keras
from training import CLASSES, FEATURES, TOKENS, fit, layer

layers = keras.layers
USERS, ITEMS = TOKENS[:, 0], TOKENS[:, 1]
RATINGS = ((USERS * 7 + ITEMS * 3) % 5 + 1).astype("float32")


@case(legacy=True)
def matrix_factorization_with_biases():
    class Recommender(keras.Model):
        def __init__(self):
            super().__init__()
            options = {"embeddings_regularizer": keras.regularizers.L2(1e-6)}
            self.user, self.item = (layers.Embedding(20, 8, **options) for _ in range(2))
            self.user_bias, self.item_bias = layers.Embedding(20, 1), layers.Embedding(20, 1)

        def call(self, inputs):
            user, item = self.user(inputs[:, 0]), self.item(inputs[:, 1])
            match = tf.reduce_sum(user * item, axis=-1, keepdims=True)
            bias = self.user_bias(inputs[:, 0]) + self.item_bias(inputs[:, 1])
            return tf.nn.sigmoid(match + bias)

    scaled = (RATINGS - RATINGS.min()) / (RATINGS.max() - RATINGS.min())
    pairs = np.stack([USERS, ITEMS], 1)
    model = Recommender()
    loss = fit(model, pairs, scaled, "binary_crossentropy")
    best = model.predict(pairs, verbose=0).flatten().argsort()[-3:][::-1]
    assert best.shape == (3,)
    return loss


@case(legacy=True)
def two_towers_with_in_batch_negatives():
    class Towers(keras.Model):
        def __init__(self):
            super().__init__()
            self.query = keras.Sequential([layers.Embedding(20, 16), layers.Dense(8)])
            self.candidate = keras.Sequential([layers.Embedding(20, 16), layers.Dense(8)])
            self.tracker = keras.metrics.Mean(name="loss")

        @property
        def metrics(self):
            return [self.tracker]

        def call(self, pair):
            return self.query(pair[0]), self.candidate(pair[1])

        def train_step(self, pair):
            with tf.GradientTape() as tape:
                query, candidate = self(pair, training=True)
                scores = tf.linalg.matmul(query, candidate, transpose_b=True)
                same = tf.cast(tf.equal(pair[1][:, None], pair[1][None]), tf.float32)
                duplicates = same - tf.eye(tf.shape(scores)[0])
                scores += duplicates * np.finfo(np.float32).min / 100.0
                labels = tf.eye(tf.shape(scores)[0])
                loss = tf.reduce_sum(tf.nn.softmax_cross_entropy_with_logits(labels, scores))
                regularization = sum(self.losses)
                total = loss + regularization
            gradients = tape.gradient(total, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
            self.tracker.update_state(loss)
            return {"loss": self.tracker.result()}

    model = Towers()
    model.compile(keras.optimizers.Adagrad(0.1))
    data = tf.data.Dataset.from_tensor_slices((USERS, ITEMS)).batch(16)
    history = model.fit(data, epochs=2, verbose=0)
    index = model.candidate(tf.range(20))
    top = tf.math.top_k(tf.matmul(model.query(tf.constant([3])), index, transpose_b=True), 5)
    assert top.values.dtype == tf.float32
    return float(history.history["loss"][-1])


@case(legacy=True)
def wide_and_deep_with_crosses():
    numbers, category = keras.Input((12,)), keras.Input((1,), dtype="int32")
    hot = layers.CategoryEncoding(20, output_mode="one_hot")(category)
    embedded = layers.Flatten()(layers.Embedding(20, 6)(category))
    x0 = cross = layers.concatenate([layers.BatchNormalization()(numbers), embedded])
    for _ in range(2):
        cross = x0 * layers.Dense(18)(cross) + cross
    deep = layers.Dropout(0.0)(layers.Dense(16, "relu")(x0))
    wide = layers.BatchNormalization()(hot)
    merged = layers.concatenate([wide, cross, deep])
    model = keras.Model([numbers, category], layers.Dense(4, "softmax")(merged))
    return fit(model, [FEATURES[:64], USERS[:, None]], CLASSES[:64])


@case(legacy=True)
def ranked_lists_with_a_listwise_loss():
    def listwise(y, p):
        return -tf.reduce_sum(tf.nn.softmax(y) * tf.nn.log_softmax(p), axis=-1)

    class Ranking(keras.Model):
        def __init__(self):
            super().__init__()
            self.user, self.item = layers.Embedding(20, 8), layers.Embedding(20, 8)
            self.score = keras.Sequential([layers.Dense(16, "relu"), layers.Dense(1)])

        def call(self, inputs):
            users, items = self.user(inputs[0]), self.item(inputs[1])
            users = tf.repeat(tf.expand_dims(users, 1), [tf.shape(items)[1]], axis=1)
            return tf.squeeze(self.score(tf.concat([users, items], 2)), axis=-1)

    lists = TOKENS[:, 1:6]
    wanted = (lists % 5).astype("float32")
    return fit(Ranking(), (USERS, lists), wanted, listwise)


@case(legacy=True)
def tasks_weighted_in_one_model():
    inputs = keras.Input((12,))
    shared = layers.Dense(16, "relu")(inputs)
    rating = layers.Dense(1, name="rating")(shared)
    seen = layers.Dense(1, activation="sigmoid", name="seen")(shared)
    model = keras.Model(inputs, {"rating": rating, "seen": seen})
    model.compile(
        keras.optimizers.Adam(0.01),
        loss={"rating": "mse", "seen": "binary_crossentropy"},
        loss_weights={"rating": 0.3, "seen": 2.0},
        metrics={"rating": ["mae"], "seen": [keras.metrics.AUC(name="auc")]},
    )
    y = {"rating": FEATURES[:, :1] * 2 + 3, "seen": (FEATURES[:, 1:2] > 0).astype("float32")}
    history = model.fit(FEATURES, y, epochs=3, verbose=0, shuffle=False).history
    found = model.predict(FEATURES, verbose=0)
    assert all(v.dtype == np.float32 for v in found.values())
    return history["loss"][-1] + history["seen_auc"][-1]


@case(legacy=True)
def embeddings_composed_from_two_tables():
    class Hashed(layers.Layer):
        def __init__(self):
            super().__init__()
            self.quotient, self.remainder = layers.Embedding(5, 8), layers.Embedding(4, 8)

        def call(self, index):
            quotient = tf.math.floordiv(index, 4)
            remainder = tf.math.floormod(index, 4)
            return tf.multiply(self.quotient(quotient), self.remainder(remainder)) * 10.0

    class Mixed(layers.Layer):
        def build(self, shape):
            self.popular = tf.lookup.StaticHashTable(
                tf.lookup.KeyValueTensorInitializer(
                    tf.range(5, dtype=tf.int64), tf.range(5, dtype=tf.int64)
                ),
                default_value=7,
            )
            self.table, self.small = layers.Embedding(8, 8), layers.Embedding(20, 4)
            self.up = layers.Dense(8)

        def call(self, index):
            found = self.table(self.popular.lookup(index))
            is_rare = tf.cast(tf.expand_dims(index >= 5, -1), tf.float32)
            return found * (1.0 - is_rare) + self.up(self.small(index)) * is_rare

    user, item = keras.Input((), dtype="int64"), keras.Input((), dtype="int64")
    score = layers.Dot(1)([Hashed()(user), Mixed()(item)])
    return fit(keras.Model([user, item], score), [USERS, ITEMS], RATINGS, "mse")


@case(legacy=True)
def category_tokens_through_a_transformer():
    categories, numbers = keras.Input((3,), dtype="int32"), keras.Input((12,))
    x = layers.Embedding(20, 8)(categories)
    x = layer(lambda self, t: t + tf.cast(tf.range(3), tf.float32)[:, None] * 0.1)(x)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 4)(x, x))
    x = layers.concatenate([layers.Flatten()(x), layers.LayerNormalization()(numbers)])
    model = keras.Model([categories, numbers], layers.Dense(4, "softmax")(x))
    return fit(model, [TOKENS[:, :3], FEATURES[:64]], CLASSES[:64])


@case(legacy=True)
def factors_trained_as_variables():
    user = tf.Variable(tf.random.stateless_normal((20, 6), (1, 2)) * 0.3)
    item = tf.Variable(tf.random.stateless_normal((20, 6), (3, 4)) * 0.3)
    optimizer = keras.optimizers.Adam(0.05)
    head = layers.Dense(1, kernel_initializer="ones")
    for _ in range(4):
        with tf.GradientTape() as tape:
            u, v = tf.nn.embedding_lookup(user, USERS), tf.nn.embedding_lookup(item, ITEMS)
            found = tf.squeeze(head(u * v), -1) + 3.0
            loss = tf.reduce_mean(
                tf.math.squared_difference(RATINGS, found)
            ) + 0.01 * tf.nn.l2_loss(u)
        weights = [user, item, *head.trainable_variables]
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
    return float(loss)


@case(legacy=True)
def random_features_of_a_kernel():
    class Fourier(layers.Layer):
        def build(self, shape):
            start = keras.initializers.RandomNormal(seed=4)
            uniform = keras.initializers.RandomUniform(0, 2 * np.pi, seed=5)
            self.w = self.add_weight(
                shape=(shape[-1], 32), initializer=start, trainable=False, name="w"
            )
            self.b = self.add_weight(shape=(32,), initializer=uniform, trainable=False, name="b")
            self.scale = tf.Variable(10.0)

        def call(self, x):
            return tf.cos(tf.matmul(x, self.w / self.scale * 50.0) + self.b) * (2 / 32) ** 0.5

    model = keras.Sequential([keras.Input((12,)), Fourier(), layers.Dense(4)])
    return fit(model, FEATURES, np.eye(4, dtype="float32")[CLASSES], "hinge")
