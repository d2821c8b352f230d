"""Program that prints the traceback of each way in which a user's script can fail."""

from __future__ import annotations

import os
import sys
import traceback

import keras
import numpy as np
import tensorflow as tf

X = np.linspace(-1, 1, 64, dtype="float32").reshape(16, 4)
Y = X[:, :1]
CASES = []


class BadLayer(keras.layers.Layer):
    def call(self, x):
        raise RuntimeError("my layer")


class BadBuild(keras.layers.Layer):
    def build(self, shape):
        raise RuntimeError("my build")

    def call(self, x):
        return x


class BadUpdate(keras.optimizers.SGD):
    def update_step(self, *args):
        raise RuntimeError("my optimizer")


class BadStep(keras.Sequential):
    def train_step(self, data):
        raise RuntimeError("my step")


class BadData(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise RuntimeError("my data")


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = [keras.layers.Dense(3), BadLayer()]

    def call(self, x):
        for layer in self.inner:
            x = layer(x)
        return x


def failing(*args):
    raise RuntimeError("my function")


def make(*layers, optimizer="adam", loss="mse", cls=keras.Sequential, **options):
    inner = [keras.layers.Dense(8, activation="gelu"), *layers, keras.layers.Dense(1)]
    model = cls([keras.Input((4,)), *inner])
    model.compile(optimizer, loss, **options)
    return model


def fit(model, x=X, y=Y, **options):
    model.fit(x, y, verbose=0, **options)


def case(function):
    CASES.append(function)
    return function


@case
def callback_of_fit():
    fit(make(), callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=failing)])


@case
def callback_of_evaluate():
    callback = keras.callbacks.Callback()
    callback.on_test_end = failing
    make().evaluate(X, Y, verbose=0, callbacks=[callback])


@case
def callback_of_predict():
    callback = keras.callbacks.Callback()
    callback.on_predict_end = failing
    make().predict(X, verbose=0, callbacks=[callback])


@case
def layer_of_a_model():
    make(BadLayer())


@case
def layer_called_alone():
    BadLayer()(tf.ones((2, 2)))


@case
def layer_that_is_built():
    make(BadBuild())


@case
def layer_of_a_subclassed_model():
    model = Subclassed()
    model.compile("adam", "mse")
    fit(model)


@case
def loss_in_fit():
    fit(make(loss=failing))


@case
def loss_in_eager_fit():
    fit(make(loss=failing, run_eagerly=True))


@case
def loss_called_alone():
    keras.losses.MeanSquaredError()(tf.ones((2, 3)), tf.ones((4, 5)))


@case
def metric_in_fit():
    fit(make(metrics=[failing]))


@case
def metric_called_alone():
    keras.metrics.MeanMetricWrapper(failing).update_state(Y, Y)


@case
def train_step():
    fit(make(cls=BadStep))


@case
def data():
    make().fit(BadData(), verbose=0)


@case
def optimizer_in_fit():
    fit(make(optimizer=BadUpdate()))


@case
def optimizer_called_alone():
    variable, optimizer = keras.Variable(np.ones(3)), BadUpdate()
    optimizer.build([variable])
    optimizer.apply([tf.ones(3)], [variable])


@case
def gradient_of_another_shape():
    variable, optimizer = keras.Variable(np.ones(3)), keras.optimizers.Adam()
    optimizer.build([variable])
    optimizer.apply([tf.ones(4)], [variable])


@case
def custom_loop():
    model = make()
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.matmul(model(X), X))
    tape.gradient(loss, model.trainable_variables)


@case
def custom_loop_in_a_function():
    model = make()

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.matmul(model(x), x))
        return tape.gradient(loss, model.trainable_variables)

    step(tf.constant(X))


@case
def layer_in_a_function():
    model = keras.Sequential([keras.layers.Dense(2), BadLayer()])
    tf.function(lambda x: model(x))(tf.constant(X))


@case
def custom_gradient():
    @tf.custom_gradient
    def square(x):
        return x * x, failing

    variable = tf.Variable(1.0)
    with tf.GradientTape() as tape:
        loss = square(variable)
    tape.gradient(loss, variable)


@case
def loop_body():
    tf.function(lambda x: tf.while_loop(lambda i: i < 3, failing, [x]))(tf.constant(1))


@case
def array_of_another_dtype():
    tf.TensorArray(tf.float32, 2).write(0, "a")


@case
def eager_op():
    tf.matmul(tf.ones((2, 3)), tf.ones((2, 3)))


@case
def raw_op():
    tf.raw_ops.MatMul(a=object(), b=3)


@case
def conversion():
    tf.cast("a", tf.float32)


@case
def inputs_of_another_shape():
    make()(X[:, :2])


@case
def unknown_argument():
    fit(make(), unknown=1)


@case
def failing_graph():
    def loss(y_true, y_pred):
        return tf.debugging.check_numerics(tf.math.log(-tf.abs(y_pred) - 1.0), "my check")

    fit(make(loss=loss))


if __name__ == "__main__":
    if os.environ.get("SHOW_ALL"):
        keras.config.disable_traceback_filtering()
        tf.debugging.disable_traceback_filtering()
    for function in CASES:
        print(f"===== {function.__name__}")
        try:
            function()
        except Exception:  # noqa: BLE001 - every error is printed
            traceback.print_exc(file=sys.stdout)
