"""Small data, and short trainings of the code under test."""

from __future__ import annotations

import numpy as np
from registry import keras

_random = np.random.default_rng(5)
FEATURES = _random.normal(size=(96, 12)).astype("float32")
CLASSES = np.argmax(FEATURES @ _random.normal(size=(12, 4)), 1)
IMAGES = _random.normal(size=(32, 8, 8, 3)).astype("float32")
TOKENS = _random.integers(1, 20, (64, 10))


def layer(call, build=None, **options):
    """Return a layer whose `call` is the given function."""
    body = {"call": call, **({"build": build} if build else {})}
    return type("Written", (keras.layers.Layer,), body)(**options)


def train(middle, x=FEATURES, y=CLASSES, epochs=2):
    """Train `middle` between two Dense layers; return the last loss."""
    inputs = keras.Input(x.shape[1:])
    hidden = middle(keras.layers.Dense(12)(inputs))
    outputs = keras.layers.Dense(4, activation="softmax")(keras.layers.Flatten()(hidden))
    return fit(keras.Model(inputs, outputs), x, y, epochs=epochs)


def fit(model, x, y, loss="sparse_categorical_crossentropy", epochs=2, **options):
    """Compile with Adam, train without shuffling; return the loss of the last epoch."""
    model.compile(keras.optimizers.Adam(0.01), loss, **options)
    history = model.fit(x, y, epochs=epochs, verbose=0, shuffle=False)
    return history.history["loss"][-1]


def steps(step, count=5):
    """Call `step` and return its last result as a number."""
    for _ in range(count):
        result = step()
    return float(result)
