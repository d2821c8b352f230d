"""Calls of `fit`, `evaluate` and `predict` with small arrays in Keras 2 give Keras's numbers."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = [
    pytest.mark.tensorflow,
    # tf_keras 2.16 draws its seeds so.
    pytest.mark.filterwarnings("ignore:non-integer arguments to randrange"),
]

tf = pytest.importorskip("tensorflow")
tf_keras = pytest.importorskip("tf_keras")

X = np.random.default_rng(1).normal(size=(23, 4)).astype("float32")
Y = np.arange(23) % 3


class Stop(tf_keras.callbacks.Callback):
    """Stops in the middle of the second epoch."""

    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = bool(batch == 1 and self.model.optimizer.iterations > 6)


class Seeds(tf_keras.callbacks.Callback):
    """Sets another seed at the start of each epoch, and draws from it."""

    def on_epoch_begin(self, epoch, logs=None):
        tf.random.set_seed(epoch)


CALLS = {
    "fit": {},
    "one batch": {"batch_size": 32},
    "whole batches": {"x": X[:20], "y": Y[:20]},
    "epochs": {"epochs": 4},
    "initial epoch": {"epochs": 4, "initial_epoch": 1},
    "not shuffled": {"epochs": 3, "shuffle": False},
    "sample weights": {"epochs": 2, "sample_weight": np.linspace(0.0, 1.0, 23)},
    "class weights": {"epochs": 2, "class_weight": {0: 1.0, 1: 2.0, 2: 0.5}},
    "a part for validation": {"epochs": 2, "validation_split": 0.3},
    "validation data": {"epochs": 3, "validation_data": (X[:9], Y[:9]), "validation_freq": 2},
    "validation steps": {"validation_data": (X, Y), "validation_steps": 2},
    "steps": {"epochs": 3, "steps_per_epoch": 4},
    "stopped": {"epochs": 4, "callbacks": [Stop()]},
    "other seeds": {"epochs": 4, "callbacks": [Seeds()]},
}


def _model(**options):
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(3)
    layers = tf_keras.layers
    stack = [tf_keras.Input((4,)), layers.Dropout(0.3), layers.Dense(3, "softmax")]
    model = tf_keras.Sequential(stack)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], **options)
    return model


def _numbers(call, **options):
    """Return the history, weights and what is drawn next, of three calls."""
    model = _model(**options)
    call = {"x": X, "y": Y, "batch_size": 5, "verbose": 0, **call}
    histories = [model.fit(**call).history for _ in range(3)]
    scores = model.evaluate(X, Y, batch_size=5, verbose=0)
    outputs = model.predict(X, batch_size=5, verbose=0).tolist()
    weights = [weight.tolist() for weight in model.get_weights()]
    return histories, scores, outputs, weights, float(tf.random.uniform(()))


WAYS = [
    *((name, {}) for name in CALLS),
    *((name, {"steps_per_execution": 3}) for name in ("epochs", "a part for validation")),
    *((name, {"run_eagerly": True}) for name in ("epochs", "validation data")),
]


@pytest.mark.parametrize(("name", "options"), WAYS)
def test_trainings_are_those_of_keras(only, name, options):
    expected = _numbers(CALLS[name], **options)
    with only("legacy_array_passes"):
        assert str(_numbers(CALLS[name], **options)) == str(expected)


def test_inputs_by_name(only):
    def numbers():
        tf_keras.utils.set_random_seed(3)
        inputs = {name: tf_keras.Input((4,), name=name) for name in "ab"}
        outputs = tf_keras.layers.Dense(1)(tf_keras.layers.concatenate(list(inputs.values())))
        model = tf_keras.Model(inputs, {"c": outputs})
        model.compile("adam", {"c": "mse"})
        data = {"a": X, "b": X[:, ::-1]}, {"c": X[:, 0]}
        history = [model.fit(*data, epochs=2, verbose=0).history for _ in range(2)]
        return history, model.predict(data[0], verbose=0)

    expected = numbers()
    with only("legacy_array_passes"):
        assert str(numbers()) == str(expected)


def test_a_step_is_not_traced_again_for_other_batches(only):
    """The graph of a step fits the pipeline of Keras and that of the path."""
    model = _model()
    call = {"x": X, "y": Y, "batch_size": 5, "verbose": 0, "epochs": 2}
    model.fit(**call)
    traces = model.train_tf_function.experimental_get_tracing_count()
    with only("legacy_array_passes"):
        for _ in range(3):
            model.fit(**call)
            model.fit(**{**call, "epochs": 1})
    assert model.train_tf_function.experimental_get_tracing_count() == traces


def test_subclasses_of_a_model(only):
    class Model(tf_keras.Sequential):
        def train_step(self, data):
            seen.append(np.ravel(data[1]).tolist())
            return super().train_step(data)

    def rows():
        seen.clear()
        tf_keras.utils.set_random_seed(3)
        model = Model([tf_keras.Input((4,)), tf_keras.layers.Dense(1)])
        model.compile("sgd", "mse", run_eagerly=True)
        for _ in range(2):
            model.fit(X, np.arange(23), batch_size=4, epochs=3, verbose=0)
        return list(seen)

    seen = []
    expected = rows()
    with only("legacy_array_passes"):
        assert rows() == expected
