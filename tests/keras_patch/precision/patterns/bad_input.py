"""Code that fails in plain Keras: the script must get the same exception and message."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from registry import bad_case, keras
from training import CLASSES, FEATURES, fit, layer, train

layers = keras.layers
InvalidArgumentError = tf.errors.InvalidArgumentError


class OwnError(RuntimeError):
    """An exception class of the script."""


def raising(error):
    def call(self, x):
        raise error

    return layer(call)


@bad_case(ValueError, "needs 3 features, got 12", legacy=True)
def layer_that_checks_its_shape():
    def call(self, x):
        if x.shape[-1] != 3:
            raise ValueError(f"needs 3 features, got {x.shape[-1]}")
        return x

    return train(layer(call))


@bad_case(ValueError, "window 13 is longer than 12", legacy=True)
def build_that_checks_its_shape():
    def build(self, shape):
        if shape[-1] < 13:
            raise ValueError(f"window 13 is longer than {shape[-1]}")

    return train(layer(lambda self, x: x, build))


@bad_case(OwnError, "the codebook is empty", legacy=True)
def layer_that_raises_an_own_error():
    return raising(OwnError("the codebook is empty"))(FEATURES)


@bad_case(TypeError, "expected a mask, got a list", legacy=True)
def layer_that_raises_a_type_error_of_its_own():
    return raising(TypeError("expected a mask, got a list"))(FEATURES)


@bad_case(KeyError, "temperature", legacy=True)
def layer_that_misses_a_key():
    return layer(lambda self, x: x * {"scale": 1.0}["temperature"])(FEATURES)


@bad_case(AttributeError, "'Written' object has no attribute 'kernel'", legacy=True)
def layer_that_misses_an_attribute():
    return layer(lambda self, x: tf.matmul(x, self.kernel))(FEATURES)


@bad_case(KeyboardInterrupt, "", legacy=True)
def interrupted_inside_a_layer():
    return raising(KeyboardInterrupt())(FEATURES)


@bad_case(SystemExit, "3", legacy=True)
def exit_inside_a_layer():
    return raising(SystemExit(3))(FEATURES)


@bad_case(AssertionError, "rows must be even", legacy=True)
def assertion_inside_a_layer():
    def call(self, x):
        assert x.shape[-1] % 2, "rows must be even"

    return layer(call)(FEATURES)


@bad_case(KeyboardInterrupt, "", legacy=True)
def interrupted_by_a_callback():
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    model = keras.Sequential([keras.Input((12,)), layers.Dense(4, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model.fit(FEATURES, CLASSES, verbose=0, callbacks=[Stop()])


@bad_case(InvalidArgumentError, "Matrix size-incompatible", legacy=True)
def product_of_shapes_that_do_not_fit():
    return layer(lambda self, x: tf.matmul(x, tf.ones((5, 2))))(FEATURES)


@bad_case(InvalidArgumentError, "Incompatible shapes", legacy=True)
def sum_of_shapes_that_do_not_fit():
    return layer(lambda self, x: x + tf.ones((7,)))(FEATURES)


@bad_case(InvalidArgumentError, "Input to reshape is a tensor with 1152 values", legacy=True)
def reshaped_to_a_size_that_does_not_fit():
    return layer(lambda self, x: tf.reshape(x, (5, 5)))(FEATURES)


@bad_case(InvalidArgumentError, "indices[0] = 99 is not in [0, 12)", legacy=True)
def gathered_past_the_end():
    return layer(lambda self, x: tf.gather(x[0], [99]) + 1.0)(FEATURES)


@bad_case(InvalidArgumentError, "Received a label value of 9", legacy=True)
def label_past_the_last_class():
    model = keras.Sequential([keras.Input((12,)), layers.Dense(4)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return fit(model, FEATURES, np.full(96, 9), loss)


@bad_case(InvalidArgumentError, "too large", legacy=True)
def assertion_of_tensorflow_while_training():
    def call(self, x):
        tf.debugging.assert_less(tf.reduce_max(tf.abs(x)), 1e-3, message="too large")
        return x

    return train(layer(call))


@bad_case(InvalidArgumentError, "Tensor had NaN values", legacy=True)
def numbers_checked_while_training():
    def call(self, x):
        return tf.debugging.check_numerics(tf.sqrt(-tf.abs(x) - 1.0), "checked")

    return train(layer(call))


@bad_case(InvalidArgumentError, "not invertible", legacy=True)
def inverse_of_a_singular_matrix():
    return layer(lambda self, x: tf.linalg.inv(0.0 * x[:12]))(FEATURES)


@bad_case(InvalidArgumentError, "cannot compute Mul as input #1", legacy=True)
def integers_times_floats_outside_a_layer():
    return tf.constant([1, 2]) * tf.constant([0.5, 0.5])


@bad_case(InvalidArgumentError, "cannot compute AddV2 as input #1", legacy=True)
def float32_plus_float64_outside_a_layer():
    return tf.constant([1.0]) + tf.constant([1.0], tf.float64)


@bad_case(InvalidArgumentError, "cannot compute", legacy=True)
def float32_plus_float64_inside_a_layer():
    return layer(lambda self, x: tf.constant([1.0]) + tf.constant([1.0], tf.float64) + x)(FEATURES)


@bad_case(ValueError, "is incompatible with the layer", legacy=True)
def features_of_another_width():
    model = keras.Sequential([keras.Input((7,)), layers.Dense(4)])
    return fit(model, FEATURES, CLASSES)


@bad_case(ValueError, "No gradients provided for any variable", legacy=True)
def gradients_of_nothing():
    model = keras.Sequential([keras.Input((12,)), layers.Dense(1)])
    optimizer = keras.optimizers.SGD()
    with tf.GradientTape() as tape:
        loss = tf.constant(1.0)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables))


@bad_case(ZeroDivisionError, "by zero")
def loss_that_divides_by_zero_in_python():
    model = keras.Sequential([keras.Input((12,)), layers.Dense(1)])
    return fit(model, FEATURES, FEATURES[:, :1], lambda y, p: tf.reduce_mean(y - p) / (1 // 0))


@bad_case(ValueError, "unknown mode 'fast'", legacy=True)
def metric_that_raises():
    def metric(y, p):
        raise ValueError("unknown mode 'fast'")

    model = keras.Sequential([keras.Input((12,)), layers.Dense(4, "softmax")])
    return fit(model, FEATURES, CLASSES, metrics=[metric])


@bad_case(StopIteration, "no more levels", legacy=True)
def iterator_that_ends_in_a_layer():
    return raising(StopIteration("no more levels"))(FEATURES)


@bad_case(tf.errors.ResourceExhaustedError, "", legacy=True)
def more_memory_than_there_is():
    return layer(lambda self, x: tf.zeros((2**17, 2**17, 2**8)) + x[0, 0])(FEATURES)


@bad_case(tf.errors.UnknownError, "OwnError: the sensor is off", legacy=True)
def numpy_function_that_raises():
    def read(x):
        raise OwnError("the sensor is off")

    def call(self, x):
        return tf.ensure_shape(tf.numpy_function(read, [x], tf.float32), x.shape)

    return train(layer(call))


@bad_case(TypeError, "mask must be bool, got", legacy=True)
def message_of_the_script_about_dtypes():
    def call(self, x):
        if x.dtype != tf.bool:
            raise TypeError(f"mask must be bool, got {x.dtype.name}")

    return layer(call)(FEATURES)


@bad_case(OwnError, "call 1 failed", legacy=True)
def failure_after_one_call_only():
    calls = []

    def call(self, x):
        calls.append(x)
        raise OwnError(f"call {len(calls)} failed")

    return layer(call)(FEATURES)
