"""Custom losses: functions, classes, `add_loss`, and losses in a training step."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from registry import case, keras
from training import CLASSES, FEATURES, IMAGES, fit, steps

layers = keras.layers
ONE_HOT = np.eye(4, dtype="float32")[CLASSES]


def fit_dense(loss, y, units=4, activation=None, **options):
    """Train two Dense layers on the features with `loss`."""
    model = keras.Sequential(
        [keras.Input((12,)), layers.Dense(16, "relu"), layers.Dense(units, activation)]
    )
    return fit(model, FEATURES, y, loss, **options)


@case(legacy=True)
def squares_with_a_constant_weight():
    def loss(y, p):
        hot = tf.one_hot(tf.cast(tf.reshape(y, [-1]), tf.int32), 4)
        return tf.reduce_mean(tf.square(hot - p) * tf.constant([0.5, 1.0, 1.0, 2.0]))

    return fit_dense(loss, CLASSES)


@case(legacy=True)
def focal_loss():
    class Focal(keras.losses.Loss):
        def __init__(self, alpha=0.25, gamma=2.0):
            super().__init__(name="focal")
            self.alpha, self.gamma = tf.constant(alpha), gamma

        def call(self, y, p):
            cross = tf.nn.sigmoid_cross_entropy_with_logits(labels=y, logits=p)
            chance = tf.nn.sigmoid(p)
            alpha = tf.where(tf.equal(y, 1.0), self.alpha, 1.0 - self.alpha)
            pt = tf.where(tf.equal(y, 1.0), chance, 1 - chance)
            return tf.reduce_sum(alpha * tf.pow(1.0 - pt, self.gamma) * cross, axis=-1)

    return fit_dense(Focal(), ONE_HOT)


@case(legacy=True)
def dice_and_cross_entropy_of_a_mask():
    def dice(y, p):
        both = tf.reduce_sum(y * p, (1, 2, 3))
        total = tf.reduce_sum(y, (1, 2, 3)) + tf.reduce_sum(p, (1, 2, 3))
        overlap = (2.0 * both + 1.0) / (total + 1.0)
        return 1 - overlap + tf.reduce_mean(keras.losses.binary_crossentropy(y, p), (1, 2))

    inputs = keras.Input((8, 8, 3))
    small = layers.Conv2D(6, 3, 2, "same", activation="relu")(inputs)
    large = layers.Conv2DTranspose(6, 3, 2, "same", activation="relu")(small)
    mask = layers.Conv2D(1, 1, activation="sigmoid")(layers.concatenate([large, inputs]))
    wanted = (IMAGES[..., :1] > 0).astype("float32")
    return fit(keras.Model(inputs, mask), IMAGES, wanted, dice)


@case(legacy=True)
def overlap_of_boxes():
    def corners(box):
        centre, size = box[..., :2], tf.exp(box[..., 2:])
        return tf.concat([centre - size / 2.0, centre + size / 2.0], -1)

    def loss(y, p):
        y, p = corners(y), corners(p)
        low, high = tf.maximum(y[:, :2], p[:, :2]), tf.minimum(y[:, 2:], p[:, 2:])
        shared = tf.reduce_prod(tf.maximum(high - low, 0.0), -1)
        areas = [tf.reduce_prod(b[:, 2:] - b[:, :2], -1) for b in (y, p)]
        union = tf.math.add_n(areas) - shared
        outer = tf.maximum(y[:, 2:], p[:, 2:]) - tf.minimum(y[:, :2], p[:, :2])
        hull = tf.reduce_prod(outer, -1)
        return 1.0 - shared / union + (hull - union) / hull

    return fit_dense(loss, FEATURES[:, :4] * 0.3)


@case(legacy=True)
def quantiles():
    levels = tf.constant([0.1, 0.5, 0.9])

    def pinball(y, p):
        error = y - p
        return tf.reduce_mean(tf.maximum(levels * error, (levels - 1) * error), -1)

    return fit_dense(pinball, FEATURES.sum(1, keepdims=True), 3)


@case(legacy=True)
def mixture_density():
    def negative_log_likelihood(y, p):
        logits, mean, spread = tf.split(p, 3, axis=1)
        spread = tf.nn.softplus(spread) + 1e-3
        logs = -0.5 * tf.square((y - mean) / spread) - tf.math.log(spread * np.sqrt(2 * np.pi))
        return -tf.reduce_logsumexp(tf.nn.log_softmax(logits) + logs, axis=1)

    return fit_dense(negative_log_likelihood, FEATURES[:, :1] * 0.5, 9)


@case(legacy=True)
def huber_by_where():
    def huber(y, p):
        error = tf.abs(y - p)
        flat = tf.constant(1.0) * error - 0.5
        return tf.where(error < 1.0, 0.5 * tf.square(error), flat)

    return fit_dense(huber, FEATURES[:, :1] * 3.0, 1)


@case(legacy=True)
def weighted_classes_gathered_from_a_table():
    table = tf.constant([1.0, 2.0, 0.5, 1.5])

    def loss(y, p):
        y = tf.cast(tf.reshape(y, [-1]), tf.int64)
        weights = tf.gather(table, y)
        return weights * tf.nn.sparse_softmax_cross_entropy_with_logits(y, p)

    return fit_dense(loss, CLASSES)


@case(legacy=True)
def pairwise_ranking():
    def loss(y, p):
        wanted = y - tf.transpose(y)
        found = p - tf.transpose(p)
        pairs = tf.cast(wanted > 0, tf.float32)
        cost = tf.nn.softplus(-found) * pairs
        return tf.reduce_sum(cost) / tf.maximum(tf.reduce_sum(pairs), 1.0)

    return fit_dense(loss, FEATURES[:, 2:3], 1)


@case(legacy=True)
def cox_partial_likelihood():
    def loss(y, risk):
        time, event = y[:, 0], y[:, 1]
        order = tf.argsort(time, direction="DESCENDING")
        risk = tf.gather(tf.squeeze(risk, -1), order)
        event = tf.gather(event, order)
        return -tf.reduce_mean((risk - tf.math.cumulative_logsumexp(risk)) * event)

    y = np.stack([np.abs(FEATURES[:, 0]), FEATURES[:, 1] > 0], 1).astype("float32")
    return fit_dense(loss, y, 1)


@case(legacy=True)
def contrastive_pairs_of_views():
    encoder = keras.Sequential([keras.Input((12,)), layers.Dense(16, "relu"), layers.Dense(8)])
    optimizer = keras.optimizers.Adam(0.01)

    def step():
        views = [FEATURES[:24] + 0.1 * np.roll(FEATURES[:24], k, 1) for k in (1, 2)]
        with tf.GradientTape() as tape:
            a, b = (tf.math.l2_normalize(encoder(v.astype("float32")), axis=1) for v in views)
            similar = tf.matmul(a, b, transpose_b=True) / 0.1
            own = tf.range(24)
            loss = keras.losses.sparse_categorical_crossentropy(
                tf.concat([own, own], 0),
                tf.concat([similar, tf.transpose(similar)], 0),
                from_logits=True,
            )
        gradients = tape.gradient(loss, encoder.trainable_weights)
        optimizer.apply_gradients(zip(gradients, encoder.trainable_weights))
        return tf.reduce_mean(loss)

    return steps(step, 4)


@case(legacy=True)
def supervised_contrastive():
    def loss(labels, vectors):
        vectors = tf.math.l2_normalize(vectors, 1)
        logits = tf.matmul(vectors, tf.transpose(vectors)) / tf.constant(0.5)
        same = tf.cast(tf.equal(labels, tf.transpose(labels)), tf.float32)
        other = 1.0 - tf.eye(tf.shape(logits)[0])
        logs = logits - tf.math.log(tf.reduce_sum(tf.exp(logits) * other, 1, keepdims=True))
        count = tf.maximum(tf.reduce_sum(same * other, 1), 1.0)
        return -tf.reduce_mean(tf.reduce_sum(same * other * logs, 1) / count)

    return fit_dense(loss, CLASSES[:, None].astype("float32"), 8)


@case(legacy=True)
def triplets_in_a_siamese_model():
    class Siamese(keras.Model):
        def __init__(self, embed):
            super().__init__()
            self.embed, self.margin = embed, 2.0
            self.tracker = keras.metrics.Mean(name="loss")

        def call(self, triple):
            anchor, near, far = (self.embed(part) for part in triple)
            return tf.reduce_sum((anchor - near) ** 2, -1), tf.reduce_sum((anchor - far) ** 2, -1)

        def train_step(self, data):
            with tf.GradientTape() as tape:
                near, far = self(data)
                loss = tf.maximum(near - far + self.margin, 0.0)
            gradients = tape.gradient(loss, self.embed.trainable_weights)
            self.optimizer.apply_gradients(zip(gradients, self.embed.trainable_weights))
            self.tracker.update_state(loss)
            return {"loss": self.tracker.result()}

        @property
        def metrics(self):
            return [self.tracker]

    embed = keras.Sequential([keras.Input((12,)), layers.Dense(16, "relu"), layers.Dense(6)])
    model = Siamese(embed)
    model.compile(keras.optimizers.Adam(0.01))
    triples = (FEATURES, FEATURES * 1.1, np.roll(FEATURES, 5, 0))
    data = tf.data.Dataset.from_tensor_slices(triples).batch(16)
    return model.fit(data, epochs=2, verbose=0).history["loss"][-1]


@case(legacy=True)
def knowledge_distilled_in_a_train_step():
    class Distiller(keras.Model):
        def __init__(self, student, teacher):
            super().__init__()
            self.student, self.teacher = student, teacher
            self.hard = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            self.soft = keras.losses.KLDivergence()

        def call(self, x):
            return self.student(x)

        def train_step(self, data):
            x, y = data
            guide = self.teacher(x, training=False)
            with tf.GradientTape() as tape:
                logits = self.student(x, training=True)
                soft = self.soft(
                    tf.nn.softmax(guide / 3.0, axis=1), tf.nn.softmax(logits / 3.0, axis=1)
                )
                loss = 0.3 * self.hard(y, logits) + 0.7 * soft * 3.0**2
            weights = self.student.trainable_variables
            self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
            return {"distilled": loss}  # Keras replaces a lone "loss" by its own mean

    def net(width):
        return keras.Sequential([keras.Input((12,)), layers.Dense(width, "relu"), layers.Dense(4)])

    teacher = net(32)
    fit(teacher, FEATURES, CLASSES, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model = Distiller(net(8), teacher)
    model.compile(keras.optimizers.Adam(0.01))
    data = tf.data.Dataset.from_tensor_slices((FEATURES, CLASSES)).batch(32)
    return float(model.fit(data, epochs=3, verbose=0).history["distilled"][-1])


@case(legacy=True)
def centres_pulled_by_a_loss_with_a_variable():
    class Centre(layers.Layer):
        def build(self, shape):
            self.centres = self.add_weight(shape=(4, 8), trainable=False, name="centres")

        def call(self, vectors, labels):
            labels = tf.reshape(tf.cast(labels, tf.int32), [-1])
            chosen = tf.gather(self.centres, labels)
            self.add_loss(0.1 * tf.reduce_mean(tf.reduce_sum((vectors - chosen) ** 2, 1)))
            step = 0.5 * (chosen - vectors)
            updates = tf.math.unsorted_segment_mean(step, labels, 4)
            self.centres.assign_sub(updates)
            return vectors

    x, labels = keras.Input((12,)), keras.Input((1,), dtype="int32")
    vectors = Centre()(layers.Dense(8)(x), labels)
    model = keras.Model([x, labels], layers.Dense(4, "softmax")(vectors))
    return fit(model, [FEATURES, CLASSES[:, None]], CLASSES)


@case
def loss_written_with_keras_ops():
    ops = keras.ops

    def loss(y, p):
        p = ops.clip(ops.softmax(p), 1e-7, 1.0)
        smooth = y * 0.9 + ops.convert_to_tensor(np.float32(0.1 / 4))
        return -ops.sum(smooth * ops.log(p), axis=-1) + 0.1 * ops.logsumexp(p, axis=-1)

    return fit_dense(loss, ONE_HOT)


@case(legacy=True)
def correlation_of_two_views():
    def loss(y, p):
        a, b = p - tf.reduce_mean(p, 0), y - tf.reduce_mean(y, 0)
        a, b = a / (tf.math.reduce_std(a, 0) + 1e-3), b / (tf.math.reduce_std(b, 0) + 1e-3)
        cross = tf.matmul(a, b, transpose_a=True) / tf.cast(tf.shape(a)[0], tf.float32)
        eye = tf.eye(4)
        return tf.reduce_sum(tf.where(eye > 0, (cross - 1.0) ** 2, 0.005 * cross**2))

    return fit_dense(loss, FEATURES[:, :4])


@case(legacy=True)
def loss_and_metric_computed_by_the_last_layer():
    class Endpoint(layers.Layer):
        def __init__(self):
            super().__init__()
            self.loss = keras.losses.BinaryCrossentropy(from_logits=True)

        def call(self, logits, targets):
            self.add_loss(self.loss(targets, logits))
            return tf.nn.sigmoid(logits)

    features, targets = keras.Input((12,)), keras.Input((1,))
    outputs = Endpoint()(layers.Dense(1, kernel_initializer="zeros")(features), targets)
    model = keras.Model([features, targets], outputs)
    model.compile(keras.optimizers.SGD(1e-3))
    data = [FEATURES, (FEATURES[:, :1] > 0).astype("float32")]
    loss = model.fit(data, batch_size=96, verbose=0, shuffle=False).history["loss"][-1]
    assert abs(loss - np.log(2.0)) < 1e-5, f"the loss {loss} is rounded"
    return loss
