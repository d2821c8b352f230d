"""Tapes around models: explanations, attacks, second derivatives, custom gradients."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from registry import case, keras
from training import CLASSES, FEATURES, IMAGES, fit, layer, steps, train

layers = keras.layers
CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy()


def classifier():
    image = keras.Input((8, 8, 3))
    maps = layers.Conv2D(6, 3, name="maps")(image)
    pooled = layers.GlobalAveragePooling2D()(layers.ReLU()(maps))
    return keras.Model(image, layers.Dense(4, "softmax", name="classes")(pooled))


def perceptron(*units, activation="tanh"):
    middle = [layers.Dense(n, activation) for n in units[:-1]]
    return keras.Sequential([keras.Input((12,)), *middle, layers.Dense(units[-1])])


@case(legacy=True)
def grad_cam():
    model = classifier()
    both = keras.Model(model.inputs, [model.get_layer("maps").output, model.output])
    with tf.GradientTape() as tape:
        maps, scores = both(IMAGES[:1])
        score = scores[:, tf.argmax(scores[0])]
    weights = tf.reduce_mean(tape.gradient(score, maps), axis=(0, 1, 2))
    heat = tf.squeeze(maps[0] @ weights[..., tf.newaxis])
    heat = tf.maximum(heat, 0) / (tf.reduce_max(tf.abs(heat)) + 1e-8)
    assert heat.numpy().dtype == np.float32
    return float(np.uint8(255 * heat).mean()) + 1


@case(legacy=True)
def integrated_gradients():
    model = classifier()
    alphas = tf.linspace(0.0, 1.0, 11)[:, None, None, None]
    image = tf.constant(IMAGES[0])
    path = tf.zeros_like(image) + alphas * image
    with tf.GradientTape() as tape:
        tape.watch(path)
        score = model(path)[:, 2]
    gradients = tape.gradient(score, path)
    average = tf.reduce_mean((gradients[:-1] + gradients[1:]) / tf.constant(2.0), 0)
    return float(tf.reduce_sum(tf.abs(image * average)))


@case(legacy=True)
def fast_gradient_sign_attack():
    model, image = classifier(), tf.convert_to_tensor(IMAGES[:4])
    with tf.GradientTape() as tape:
        tape.watch(image)
        loss = CROSS_ENTROPY(CLASSES[:4], model(image))
    signed = tf.sign(tape.gradient(loss, image))
    attacked = tf.clip_by_value(image + 0.1 * signed, -1, 1)
    return float(CROSS_ENTROPY(CLASSES[:4], model(attacked)))


@case(legacy=True)
def deep_dream_ascent():
    model = classifier()
    inner = keras.Model(model.input, model.get_layer("maps").output)

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3]), tf.TensorSpec([])])
    def ascend(image, rate):
        for _ in tf.range(5):
            with tf.GradientTape() as tape:
                tape.watch(image)
                loss = tf.reduce_mean(tf.square(inner(image[None])))
            gradients = tape.gradient(loss, image)
            gradients /= tf.math.reduce_std(gradients) + 1e-8
            image = tf.clip_by_value(image + gradients * rate, -1, 1)
        return loss, image

    loss, image = ascend(tf.constant(IMAGES[0]), tf.constant(0.05))
    assert image.dtype == tf.float32
    return float(loss)


@case(legacy=True)
def jacobian_and_batch_jacobian():
    model, x = perceptron(8, 3), tf.constant(FEATURES[:5])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = model(x)
    full, batched = tape.jacobian(y, x), tape.batch_jacobian(y, x)
    diagonal = tf.einsum("bibj->bij", full)
    assert float(tf.reduce_max(tf.abs(diagonal - batched))) < 1e-2
    return float(tf.norm(batched))


@case(legacy=True)
def hessian_vector_product():
    model = perceptron(8, 1)
    weights = model.trainable_variables
    vector = [tf.ones_like(w) for w in weights]
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            loss = tf.reduce_mean(tf.square(model(FEATURES[:16]) - 1.0))
        gradients = inner.gradient(loss, weights)
    products = outer.gradient(gradients, weights, output_gradients=vector)
    return float(tf.linalg.global_norm([p for p in products if p is not None]))


@case(legacy=True)
def forward_mode_derivative():
    model, x = perceptron(8, 1), tf.constant(FEATURES[:6])
    with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as forward:
        y = model(x)
    return float(tf.norm(forward.jvp(y)))


@case(legacy=True)
def gradients_of_each_example():
    model = perceptron(6, 4)
    weights = model.trainable_variables

    def one(both):
        x, y = both
        with tf.GradientTape() as tape:
            logits = model(x[None])
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(y[None], logits)
        return tape.gradient(loss, weights)

    pairs = (tf.constant(FEATURES[:8]), tf.constant(CLASSES[:8], tf.int32))
    gradients = tf.function(lambda: tf.vectorized_map(one, pairs))()
    norms = tf.sqrt(sum(tf.reduce_sum(g**2, tuple(range(1, g.ndim))) for g in gradients))
    clipped = [
        tf.reduce_mean(g / tf.maximum(1.0, tf.reshape(norms, [-1] + [1] * (g.ndim - 1))), 0)
        for g in gradients
    ]
    return float(tf.linalg.global_norm(clipped))


@case(legacy=True)
def reversed_gradient_for_domains():
    @tf.custom_gradient
    def reverse(x):
        return tf.identity(x), lambda upstream: -upstream * tf.constant(0.3)

    inputs = keras.Input((12,))
    shared = layers.Dense(10, "relu")(inputs)
    label = layers.Dense(4, "softmax", name="label")(shared)
    reversed_ = layer(lambda self, x: reverse(x))(shared)
    domain = layers.Dense(1, "sigmoid", name="domain")(reversed_)
    model = keras.Model(inputs, [label, domain])
    losses = ["sparse_categorical_crossentropy", "binary_crossentropy"]
    domains = (FEATURES[:, :1] > 0).astype("float32")
    return fit(model, FEATURES, [CLASSES, domains], losses)


@case(legacy=True)
def straight_through_sign():
    @tf.custom_gradient
    def sign(x):
        def backward(upstream):
            return upstream * tf.cast(tf.abs(x) < 1.0, tf.float32)

        return tf.where(x >= 0, tf.ones_like(x), -tf.ones_like(x)), backward

    return train(layer(lambda self, x: sign(x)))


@case(legacy=True)
def reversible_block():
    class Reversible(layers.Layer):
        def __init__(self):
            super().__init__()
            self.f, self.g = layers.Dense(6, "tanh"), layers.Dense(6, "tanh")

        def call(self, x):
            first, second = tf.split(x, 2, axis=-1)

            @tf.recompute_grad
            def block(a, b):
                a = a + self.f(b)
                return a, b + self.g(a)

            if not self.f.built:
                self.f.build((None, 6))
                self.g.build((None, 6))
            return tf.concat(block(first, second), -1)

    return train(Reversible())


@case(legacy=True)
def penalty_on_the_input_gradient():
    model = perceptron(16, 1)
    optimizer = keras.optimizers.Adam(0.01)
    x, target = tf.constant(FEATURES), tf.constant(FEATURES[:, :1] * 0.5)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = model(x, training=True)
            slope = tf.norm(inner.gradient(y, x), axis=1)
            loss = tf.reduce_mean((y - target) ** 2) + tf.reduce_mean((slope - 1.0) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return loss

    return steps(step)


@case(legacy=True)
def residual_of_a_differential_equation():
    model = keras.Sequential(
        [keras.Input((1,)), layers.Dense(16, "tanh"), layers.Dense(16, "tanh"), layers.Dense(1)]
    )
    optimizer, t = keras.optimizers.Adam(0.01), tf.linspace(0.0, 1.0, 32)[:, None]

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            with tf.GradientTape() as second:
                second.watch(t)
                with tf.GradientTape() as first:
                    first.watch(t)
                    u = model(t)
                speed = first.gradient(u, t)
            acceleration = second.gradient(speed, t)
            loss = tf.reduce_mean((acceleration + 4.0 * u - tf.sin(3.0 * t)) ** 2)
            loss += tf.reduce_mean((u[0] - 1.0) ** 2)
        gradients = tape.gradient(loss, model.trainable_weights)
        optimizer.apply_gradients(zip(gradients, model.trainable_weights))
        return loss

    return steps(step, 10)


@case(legacy=True)
def inner_loop_of_meta_learning():
    model, optimizer = perceptron(8, 1), keras.optimizers.SGD(0.1)
    x, y = tf.constant(FEATURES[:32]), tf.constant(FEATURES[:32].mean(1, keepdims=True))

    def forward(weights, x):
        w1, b1, w2, b2 = weights
        return tf.matmul(tf.tanh(tf.matmul(x, w1) + b1), w2) + b2

    def step():
        weights = model.trainable_variables
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                loss = tf.reduce_mean((model(x[:16]) - y[:16]) ** 2)
            gradients = inner.gradient(loss, weights)
            fast = [w - 0.2 * g for w, g in zip(weights, gradients)]
            after = tf.reduce_mean((forward(fast, x[16:]) - y[16:]) ** 2)
        optimizer.apply_gradients(zip(outer.gradient(after, weights), weights))
        return after

    return steps(step)


@case(legacy=True)
def gradients_accumulated_by_hand():
    model, optimizer = perceptron(8, 4), keras.optimizers.Adam(0.02)
    sums = [tf.Variable(tf.zeros_like(w), trainable=False) for w in model.trainable_variables]

    @tf.function
    def gather(x, y):
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(y, tf.cast(logits, tf.float32))
            loss = tf.reduce_mean(loss)
        for total, gradient in zip(sums, tape.gradient(loss, model.trainable_variables)):
            total.assign_add(gradient / 4.0)
        return loss

    for _ in range(3):
        for part in range(4):
            at = slice(part * 24, part * 24 + 24)
            loss = gather(FEATURES[at], CLASSES[at])
        optimizer.apply_gradients(zip(sums, model.trainable_variables))
        for total in sums:
            total.assign(tf.zeros_like(total))
    return float(loss)


@case(legacy=True)
def gradient_of_an_embedding_scaled_by_hand():
    embedding, head = layers.Embedding(20, 6), layers.Dense(1)
    optimizer, ids = keras.optimizers.SGD(0.5), tf.constant([[1, 4, 4], [7, 2, 1]])

    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((head(tf.reduce_mean(embedding(ids), 1)) - 1.0) ** 2)
        weights = embedding.trainable_variables + head.trainable_variables
        gradients = tape.gradient(loss, weights)
        gradients = [0.5 * tf.convert_to_tensor(g) for g in gradients]
        optimizer.apply_gradients(zip(gradients, weights))
        return loss

    return steps(step)


@case(legacy=True)
def latent_code_found_by_descent():
    decoder = keras.Sequential([keras.Input((6,)), layers.Dense(16, "relu"), layers.Dense(12)])
    code = tf.Variable(tf.zeros((1, 6)))
    optimizer = keras.optimizers.Adam(0.1)
    target = tf.constant(FEATURES[:1])

    def step():
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(code)
            loss = tf.reduce_sum(tf.abs(decoder(code) - target)) + 0.01 * tf.nn.l2_loss(code)
        optimizer.apply_gradients([(tape.gradient(loss, code), code)])
        return loss

    return steps(step, 10)
