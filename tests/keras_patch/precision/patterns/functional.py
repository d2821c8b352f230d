"""Functional and subclassed models: symbolic arithmetic, transfer learning, custom steps."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from registry import case, keras
from training import CLASSES, FEATURES, IMAGES, fit, layer

layers = keras.layers


@case(legacy=True)
def arithmetic_on_symbolic_tensors():
    inputs = keras.Input((12,))
    x = layers.Dense(12)(inputs)
    table = np.linspace(-1, 1, 12).astype("float32")
    y = (x + table) * 0.5 - x / 3.0 + x**2 * 0.1 + (1.0 - x) + (-x)
    z = layers.Dense(12)(y) * y + tf.constant(table)
    z = z[:, :8] + table[:8]
    return fit(keras.Model(inputs, layers.Dense(4, "softmax")(z)), FEATURES, CLASSES)


@case
def functions_of_keras_ops_on_symbolic_tensors():
    ops = keras.ops
    inputs = keras.Input((12,))
    x = layers.Dense(12)(inputs)
    x = ops.where(x > 0.0, x, 0.1 * x) + ops.convert_to_tensor(np.ones(12, "float32"))
    x = ops.concatenate([x, ops.sin(inputs), ops.ones_like(x)], axis=-1)
    x = ops.reshape(x, (-1, 3, 12))
    scores = ops.softmax(ops.einsum("bid,bjd->bij", x, x) / ops.sqrt(12.0))
    x = ops.matmul(scores, x) + ops.cast(ops.arange(12), "float32") * 0.01
    x = ops.max(x, axis=1) + ops.mean(x, axis=1) + ops.logsumexp(x, axis=1)
    outputs = ops.softmax(layers.Dense(4)(x))
    return fit(keras.Model(inputs, outputs), FEATURES, CLASSES)


@case(legacy=True)
def one_encoder_shared_by_two_inputs():
    encoder = keras.Sequential([keras.Input((12,)), layers.Dense(16, "relu"), layers.Dense(6)])
    a, b = keras.Input((12,)), keras.Input((12,))
    distance = layer(
        lambda self, pair: tf.sqrt(
            tf.maximum(tf.reduce_sum((pair[0] - pair[1]) ** 2, 1, keepdims=True), 1e-7)
        )
    )([encoder(a), encoder(b)])
    output = layers.Dense(1, "sigmoid")(layers.BatchNormalization()(distance))

    def contrastive(y, p):
        apart = tf.math.square(tf.math.maximum(1.0 - p, 0))
        return tf.math.reduce_mean((1 - y) * tf.math.square(p) + y * apart)

    wanted = (np.roll(CLASSES, 1) != CLASSES).astype("float32")[:, None]
    model = keras.Model([a, b], output)
    return fit(model, [FEATURES, np.roll(FEATURES, 1, 0)], wanted, contrastive)


@case(legacy=True)
def frozen_base_with_a_new_head():
    base = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
        ]
    )
    fit(keras.Sequential([base, layers.Dense(4, "softmax")]), IMAGES, CLASSES[:32])
    base.trainable = False
    before = [w.copy() for w in base.get_weights()]
    inputs = keras.Input((8, 8, 3))
    x = layers.Rescaling(scale=1 / 127.5, offset=-1)(inputs)
    x = layers.Dropout(0.0)(base(x, training=False))
    model = keras.Model(inputs, layers.Dense(4, "softmax")(x))
    first = fit(model, IMAGES * 60 + 120, CLASSES[:32])
    assert all(np.array_equal(a, b) for a, b in zip(before, base.get_weights()))
    base.trainable = True
    return first + fit(model, IMAGES * 60 + 120, CLASSES[:32])


@case(legacy=True)
def features_of_an_application():
    base = keras.applications.MobileNetV2((32, 32, 3), 0.35, include_top=False, weights=None)
    base.trainable = False
    images = np.tile(np.abs(IMAGES[:16]) * 60, (1, 4, 4, 1))
    scaled = keras.applications.mobilenet_v2.preprocess_input(images)
    middle = keras.Model(base.input, base.get_layer("block_1_project").output)
    features, inner = base(scaled, training=False), middle(scaled[:1])
    assert np.asarray(features).dtype == np.asarray(inner).dtype == np.float32
    head = keras.Sequential([layers.GlobalAveragePooling2D(), layers.Dense(4, "softmax")])
    return fit(head, features, CLASSES[:16]) + float(tf.norm(inner))


@case(legacy=True)
def step_with_compiled_loss_and_metrics():
    class Model(keras.Model):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                p = self(x, training=True)
                loss = self.compute_loss(x=x, y=y, y_pred=p)
                loss += 0.01 * tf.add_n([tf.nn.l2_loss(w) for w in self.trainable_weights])
            gradients = tape.gradient(loss, self.trainable_weights)
            gradients = [tf.clip_by_norm(g, 1.0) for g in gradients]
            self.optimizer.apply_gradients(zip(gradients, self.trainable_weights))
            for metric in self.metrics:
                metric.update_state(loss) if metric.name == "loss" else metric.update_state(y, p)
            return {metric.name: metric.result() for metric in self.metrics}

    inputs = keras.Input((12,))
    model = Model(inputs, layers.Dense(4, "softmax")(layers.Dense(16, "relu")(inputs)))
    own = (
        {} if keras.__version__ < "3" else {"metrics": [keras.metrics.SparseCategoricalAccuracy()]}
    )
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", **own)
    model.fit(FEATURES, CLASSES, epochs=2, verbose=0, shuffle=False)
    return model.evaluate(FEATURES, CLASSES, verbose=0, return_dict=True)["loss"]


@case(legacy=True)
def loop_from_scratch_with_metrics():
    inputs = keras.Input((12,))
    x = layers.Dense(16, "relu", activity_regularizer=keras.regularizers.L2(1e-3))(inputs)
    model = keras.Model(inputs, layers.Dense(4)(x))
    loss_function = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer, accuracy = keras.optimizers.Adam(0.01), keras.metrics.SparseCategoricalAccuracy()
    data = tf.data.Dataset.from_tensor_slices((FEATURES, CLASSES)).batch(32)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            loss = loss_function(y, logits) + sum(model.losses)
        gradients = tape.gradient(loss, model.trainable_weights)
        optimizer.apply_gradients(zip(gradients, model.trainable_weights))
        accuracy.update_state(y, logits)
        return loss

    for _ in range(3):
        for x, y in data:
            loss = step(x, y)
        text = f"{float(accuracy.result()):.4f} {loss.numpy():.4f}"
        accuracy.reset_state()
    assert loss.numpy().dtype == np.float32
    return float(text.split()[1])


@case(legacy=True)
def layers_held_by_a_module():
    class Net(tf.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = layers.Dense(16, "tanh"), layers.Dense(1)
            self.scale = tf.Variable(1.5)

        @tf.Module.with_name_scope
        def __call__(self, x):
            return self.second(self.first(x)) * self.scale

    net, optimizer = Net(), keras.optimizers.Adam(0.01)
    target = tf.constant(FEATURES.sum(1, keepdims=True))

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((target - net(tf.constant(FEATURES))) ** 2)
        weights = [
            *net.first.trainable_variables,
            *net.second.trainable_variables,
            *([net.scale] if keras.__version__ < "3" else []),
        ]
        gradients, _ = tf.clip_by_global_norm(tape.gradient(loss, weights), 1.0)
        optimizer.apply_gradients(zip(gradients, weights))
        return loss

    for _ in range(10):
        loss = step()
    return float(loss)


@case(legacy=True)
def weights_updated_without_an_optimizer():
    dense = layers.Dense(1)
    target = tf.constant(FEATURES @ np.ones((12, 1), "float32"))
    dense(FEATURES)
    for _ in range(5):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(dense(FEATURES) - target))
        kernel, bias = tape.gradient(loss, [dense.kernel, dense.bias])
        dense.kernel.assign_sub(0.1 * kernel)
        dense.bias.assign(dense.bias - 0.1 * bias)
    return float(loss)


@case(legacy=True)
def nested_models_and_outputs_of_inner_layers():
    inner = keras.Sequential(
        [keras.Input((12,)), layers.Dense(16, "relu", name="hidden"), layers.Dense(8)], name="inner"
    )
    inputs = keras.Input((12,))
    model = keras.Model(inputs, layers.Dense(4, "softmax")(inner(inputs)))
    loss = fit(model, FEATURES, CLASSES)
    features = keras.Model(inner.inputs, [part.output for part in inner.layers])(FEATURES[:4])
    assert all(f.dtype == tf.float32 for f in features)
    return loss + float(tf.norm(features[0]))


@case(legacy=True)
def test_and_predict_steps_written_by_hand():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(4)

        def call(self, x):
            return tf.nn.softmax(self.dense(x)) + tf.zeros((1, 4))

        def test_step(self, data):
            x, y = data
            p = self(x, training=False)
            gold = tf.gather(p, tf.cast(y, tf.int32), axis=1, batch_dims=1)
            return {"gold": tf.reduce_mean(gold)}

        def predict_step(self, data):
            p = self(data, training=False)
            return tf.stack([tf.reduce_max(p, 1), tf.cast(tf.argmax(p, 1), tf.float32)], 1)

    model = Model()
    fit(model, FEATURES, CLASSES)
    found = model.predict(FEATURES, verbose=0)
    assert found.dtype == np.float32
    gold = model.evaluate(FEATURES, CLASSES, batch_size=96, verbose=0, return_dict=True)["gold"]
    return float(gold) + float(found[:, 0].mean())


@case(legacy=True)
def mixed_up_batches_and_soft_labels():
    def mix(first, second):
        (x1, y1), (x2, y2) = first, second
        gamma = tf.random.stateless_gamma([2, 32], (3, 4), 0.4) + 1e-3
        share = gamma[0] / (gamma[0] + gamma[1])
        share = tf.reshape(share, (32, 1))
        return x1 * share + x2 * (1 - share), y1 * share + y2 * (1 - share)

    hot = np.eye(4, dtype="float32")[CLASSES]
    data = tf.data.Dataset.from_tensor_slices((FEATURES, hot)).batch(32)
    mixed = tf.data.Dataset.zip((data, data.skip(1).repeat())).map(mix)
    model = keras.Sequential(
        [keras.Input((12,)), layers.Dense(16, "relu"), layers.Dense(4, "softmax")]
    )
    model.compile(keras.optimizers.Adam(0.01), "categorical_crossentropy")
    return model.fit(mixed, epochs=3, verbose=0).history["loss"][-1]


@case(legacy=True)
def pseudo_labels_between_two_augmentations():
    model = keras.Sequential([keras.Input((12,)), layers.Dense(16, "relu"), layers.Dense(4)])
    optimizer = keras.optimizers.Adam(0.01)

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            weak = tf.stop_gradient(tf.nn.softmax(model(x + 0.01, training=True)))
            strong = model(x * 0.9, training=True)
            chosen = tf.argmax(weak, 1)
            sure = tf.cast(tf.reduce_max(weak, 1) >= 0.3, tf.float32)
            cost = tf.nn.sparse_softmax_cross_entropy_with_logits(chosen, strong)
            expected = tf.fill((4,), 0.25)
            aligned = weak * expected / tf.reduce_mean(weak, 0)
            loss = tf.reduce_mean(cost * sure) + 0.1 * tf.reduce_mean(aligned**2)
        gradients = tape.gradient(loss, model.trainable_weights)
        optimizer.apply_gradients(zip(gradients, model.trainable_weights))
        return loss

    for _ in range(4):
        loss = step(tf.constant(FEATURES))
    return float(loss)
