"""Models for tables and graphs: small layers, BatchNormalization of rows, and many lookups.

They follow two examples of keras.io: "Node Classification with Graph Neural Networks", with random
citations in place of Cora's, and the wide and deep model of "Structured data learning with Wide,
Deep, and Cross networks", with 26 features of up to 20,000 ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

__all__ = ["graph_network", "graph_network_batch", "wide_deep", "wide_deep_batch"]

# Papers, citations, words and subjects of the Cora dataset.
_NODES, _EDGES, _WORDS, _SUBJECTS = 2708, 5429, 1433, 7
_FEATURES, _NUMBERS, _ROWS = 26, 13, 512


def graph_network(units: int = 32) -> Any:
    """Return a graph network with two layers of messages, which classifies nodes."""
    import numpy as np
    import tensorflow as tf
    from tensorflow import keras

    rng = np.random.default_rng(0)
    words = (rng.random((_NODES, _WORDS)) < 0.013).astype("float32")
    sources, targets = rng.integers(0, _NODES, (2, _EDGES))

    def feed_forward() -> Any:
        stack = []
        for _ in range(2):
            stack += [keras.layers.BatchNormalization(), keras.layers.Dropout(0.2)]
            stack += [keras.layers.Dense(units, tf.nn.gelu)]
        return keras.Sequential(stack)

    class GraphNetwork(keras.Model):  # type: ignore[misc]
        """Computes all nodes in every step, as the example does."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = feed_forward(), feed_forward()
            self.messages = [feed_forward() for _ in range(2)]
            self.updates = [feed_forward() for _ in range(2)]
            self.head = keras.layers.Dense(_SUBJECTS)

        def call(self, nodes: Any) -> Any:
            x = self.first(tf.constant(words))
            for message, update in zip(self.messages, self.updates, strict=True):
                sent = message(tf.gather(x, sources))
                received = tf.math.unsorted_segment_mean(sent, targets, _NODES)
                x = update(tf.concat([x, tf.cast(received, x.dtype)], axis=1)) + x
            return self.head(tf.gather(self.last(x), nodes))

    model = GraphNetwork()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def graph_network_batch() -> tuple[Any, Any]:
    """Return ids and subjects of 256 nodes."""
    import numpy as np

    rng = np.random.default_rng(0)
    return rng.integers(0, _NODES, 256), rng.integers(0, _SUBJECTS, 256)


def wide_deep(width: int = 16) -> Any:
    """Return a wide and deep model, with two tables for each of 26 features."""
    from tensorflow import keras

    layers = keras.layers
    inputs = [keras.Input((), dtype="int32", name=f"f{n}") for n in range(_FEATURES)]
    numbers = keras.Input((_NUMBERS,), name="numbers")
    deep = [layers.Embedding(n, width)(x) for n, x in zip(_id_counts(), inputs, strict=True)]
    wide = [layers.Embedding(n, 1)(x) for n, x in zip(_id_counts(), inputs, strict=True)]
    x = layers.Concatenate()([*deep, numbers])
    for units in (256, 128):
        x = layers.ReLU()(layers.BatchNormalization()(layers.Dense(units)(x)))
        x = layers.Dropout(0.1)(x)
    outputs = layers.Dense(1, "sigmoid")(layers.Concatenate()([x, layers.Add()(wide)]))
    model = keras.Model([*inputs, numbers], outputs)
    model.compile("adam", "binary_crossentropy")
    return model


def wide_deep_batch() -> tuple[Any, Any]:
    """Return 512 rows and their labels."""
    import numpy as np

    rng = np.random.default_rng(0)
    rows = {f"f{n}": rng.integers(0, ids, _ROWS) for n, ids in enumerate(_id_counts())}
    rows["numbers"] = rng.standard_normal((_ROWS, _NUMBERS)).astype("float32")
    return rows, rng.integers(0, 2, (_ROWS, 1)).astype("float32")


def _id_counts() -> list[int]:
    """Return how many ids each feature has, from 100 to 20,000."""
    return [round(100 * 200 ** (n / (_FEATURES - 1))) for n in range(_FEATURES)]
