"""A step of Keras 2 is traced once, unless a second trace would draw other numbers."""

from __future__ import annotations

import random

import numpy as np
import pytest

from nano_init import patch_tensorflow, unpatch_tensorflow
from nano_init.protocol.faster_paths import FASTER_PATHS

pytestmark = pytest.mark.tensorflow

tf = pytest.importorskip("tensorflow")
tf_keras = pytest.importorskip("tf_keras")

layers = tf_keras.layers
OTHERS = tuple(name for name in FASTER_PATHS if name != "legacy_one_trace")
GENERATOR = np.random.default_rng(1)


@pytest.fixture(autouse=True)
def _legacy_keras(monkeypatch):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    yield
    unpatch_tensorflow()
    tf_keras.backend.clear_session()


class Counted(layers.Dense):
    """A layer that counts its traces."""

    def __init__(self, **options):
        super().__init__(3, "softmax", **options)
        self.count = 0

    def call(self, inputs):
        """Return the probabilities."""
        self.count += 1
        return super().call(inputs)


class OwnStep(tf_keras.Model):
    """A model whose step is the script's own."""

    def train_step(self, data):
        """Train as Keras does."""
        return super().train_step(data)


def trained(make=list, optimizer=lambda: "adam", kind=tf_keras.Model, data=None):
    """Return the number of traces of a `fit`, and all that it leaves."""
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(3)
    GENERATOR.bit_generator.state = np.random.default_rng(1).bit_generator.state
    inputs, head = tf_keras.Input((8,)), Counted()
    hidden = layers.Dense(5)(inputs)
    for layer in make():
        hidden = layer(hidden)
    model = kind(inputs, head(hidden))
    model.compile(optimizer(), "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = np.random.rand(40, 8).astype("float32"), np.arange(40) % 3
    head.count = 0
    history = model.fit(x, y, batch_size=4, shuffle=False, verbose=0).history
    own = [*model.optimizer.variables, *model.metrics[-1].variables]
    drawn = [random.random(), np.random.rand(), float(tf.random.uniform(())), GENERATOR.random()]
    values = [np.array(value) for value in (*model.get_weights(), *own)]
    return head.count, (values, [each.name for each in own], history, drawn)


def compare(found, expected):
    """Check that two trainings left exactly the same."""
    values, *rest = found
    expected_values, *expected_rest = expected
    assert rest == expected_rest
    for mine, theirs in zip(values, expected_values, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"make": lambda: [layers.Dropout(0.5), layers.BatchNormalization()]},
        {"optimizer": lambda: tf_keras.optimizers.AdamW(use_ema=True, ema_overwrite_frequency=3)},
        {"optimizer": lambda: tf_keras.optimizers.RMSprop(momentum=0.9, centered=True)},
        {
            "optimizer": lambda: tf_keras.mixed_precision.LossScaleOptimizer(
                tf_keras.optimizers.SGD(0.1, 0.9)
            )
        },
    ],
    ids=["adam", "dropout", "adamw", "rmsprop", "loss scale"],
)
def test_a_step_is_traced_once_with_the_results_of_keras(variant):
    count, expected = trained(**variant)
    assert count == 2
    patch_tensorflow(disable=OTHERS)
    count, found = trained(**variant)
    assert count == 1
    compare(found, expected)


@pytest.mark.parametrize(
    "variant",
    [
        {"make": lambda: [layers.Dropout(0.5, seed=3)]},
        {"make": lambda: [layers.Lambda(lambda x: x * random.random())]},
        {"make": lambda: [layers.Lambda(lambda x: x * np.random.rand())]},
        {"make": lambda: [layers.Lambda(lambda x: x * GENERATOR.random())]},
        {"kind": OwnStep},
    ],
    ids=["seed", "random", "numpy", "generator", "own step"],
)
def test_a_step_that_draws_numbers_or_is_the_scripts_own_is_traced_as_in_keras(variant):
    expected_count, expected = trained(**variant)
    patch_tensorflow(disable=OTHERS)
    count, found = trained(**variant)
    assert count == expected_count == 2
    compare(found, expected)


def test_a_model_that_a_step_builds_is_traced_as_in_keras():
    def weights():
        tf_keras.backend.clear_session()
        tf_keras.utils.set_random_seed(3)
        model = tf_keras.Sequential([layers.Dense(5), layers.Dense(3)])
        model.compile("adam", "mse")
        x = np.ones((8, 4), "float32")
        model.fit(x, x[:, :3], batch_size=4, verbose=0)
        return model.get_weights()

    expected = weights()
    patch_tensorflow(disable=OTHERS)
    for mine, theirs in zip(weights(), expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_later_draw_of_a_metric_lets_the_step_be_traced_again():
    """By then the optimizer's variables are created."""

    def run():
        tf_keras.backend.clear_session()
        tf_keras.utils.set_random_seed(3)
        model = tf_keras.Sequential([tf_keras.Input((4,)), Counted()])
        noisy = lambda labels, outputs: outputs[:, 0] * random.random()  # noqa: E731
        model.compile("adam", "sparse_categorical_crossentropy", metrics=[noisy])
        x = np.ones((8, 4), "float32")
        model.layers[-1].count = 0
        history = model.fit(x, np.zeros(8), batch_size=4, verbose=0).history
        return model.layers[-1].count, list(history.values()), random.random()

    expected = run()
    patch_tensorflow(disable=OTHERS)
    assert run() == expected


class Branching(layers.Layer):
    """A layer with a branch that AutoGraph converts."""

    def call(self, inputs):
        """Return the inputs, or their opposite."""
        if tf.reduce_sum(inputs) > 0:
            return inputs
        return -inputs


def test_autograph_converts_the_layers_of_the_script():
    expected_count, expected = trained(lambda: [Branching()])
    patch_tensorflow(disable=OTHERS)
    count, found = trained(lambda: [Branching()])
    assert count < expected_count
    compare(found, expected)
