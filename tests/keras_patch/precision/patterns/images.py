"""Gradients through image operations and sums over many positions."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from registry import case, keras
from training import IMAGES, layer

layers = keras.layers


def gradients_through(operation):
    """Return the summed norms of the gradients of a convolution under `operation`."""
    inputs = keras.Input((8, 8, 3), batch_size=32)
    model = keras.Model(inputs, layer(lambda self, x: operation(x))(layers.Conv2D(3, 3)(inputs)))

    @tf.function
    def norms():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(tf.constant(IMAGES)) - 0.5))
        gradients = tape.gradient(loss, model.trainable_weights)
        assert all(g is not None for g in gradients), "the convolution gets no gradient"
        return tf.add_n([tf.norm(tf.cast(g, tf.float32)) for g in gradients])

    return float(norms())


@case(legacy=True)
def resized_by_cubic_interpolation():
    return gradients_through(lambda x: tf.image.resize(x, (12, 12), "bicubic"))


@case(legacy=True)
def cropped_by_boxes():
    boxes = tf.constant([[0.1, 0.1, 0.8, 0.8]] * 32)
    return gradients_through(lambda x: tf.image.crop_and_resize(x, boxes, tf.range(32), (4, 4)))


@case
def turned_by_an_affine_map():
    turn = tf.constant([[1.0, 0.1, 0, 0, 1, 0.1, 0, 0]] * 32)
    return gradients_through(lambda x: keras.ops.image.affine_transform(x, turn))


@case(legacy=True)
def bias_moved_by_many_positions():
    images = np.tile(IMAGES, (1, 4, 4, 1))
    inputs = keras.Input((32, 32, 3))
    maps = layers.Conv2D(4, 3, kernel_initializer="zeros")(inputs)
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(layers.ReLU()(maps + 1.0)))
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.fit(images, np.zeros((32, 4)), epochs=1, batch_size=32, verbose=0)
    bias = float(np.mean(model.layers[1].get_weights()[1]))
    assert abs(bias + 0.5) < 0.01, f"the bias moved by {bias} instead of -0.5"
    return bias


def bias_gradient(decorate):
    convolution = layers.Conv2D(4, 3, kernel_initializer="zeros")
    images = tf.constant(np.tile(IMAGES, (1, 4, 4, 1)))
    convolution(images)

    @decorate
    def gradient():
        with tf.GradientTape() as tape:
            means = tf.reduce_mean(convolution(images), (1, 2))
            loss = tf.reduce_mean(tf.reduce_sum((means - 1.0) ** 2, 1))
        return tape.gradient(loss, convolution.trainable_weights)[1]

    found = gradient().numpy()
    assert np.abs(found + 2.0).max() < 0.05, f"{found} instead of -2"
    return 1.0


@case(legacy=True)
def bias_gradient_of_an_eager_tape():
    return bias_gradient(lambda function: function)


@case(legacy=True)
def bias_gradient_of_a_traced_tape():
    return bias_gradient(tf.function)
