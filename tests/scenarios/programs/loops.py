"""Custom training loops, unaware of workers; prints the result of each.

Usage: loops.py keras|tf_keras; one line of JSON for each loop.
"""

from __future__ import annotations

import importlib
import json
import sys

import numpy as np
import tensorflow as tf

from nano_init import nano_multiprocessing

keras = importlib.import_module(sys.argv[1])
IS_LEGACY = sys.argv[1] == "tf_keras"
ROWS, BATCH = 25, 8  # the last batch has fewer rows than workers
STRATEGY = tf.distribute.get_strategy()


class Added(keras.layers.Layer):
    def call(self, x):
        self.add_loss(0.01 * tf.reduce_mean(tf.square(x)))
        return x


def batches():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 4)).astype("float32")
    y = np.tanh(2 * x[:, :2] + 1).astype("float32")
    weights = rng.uniform(0.1, 2, ROWS).astype("float32")
    return tf.data.Dataset.from_tensor_slices((x, y, weights)).batch(BATCH)


def build():
    keras.utils.set_random_seed(1)
    hidden = keras.layers.Dense(
        5, "tanh", kernel_regularizer="l2", activity_regularizer=None if IS_LEGACY else "l1"
    )
    return keras.Sequential([keras.Input((4,)), hidden, Added(), keras.layers.Dense(2)])


def reduced(name, reduction, *, is_weighted=True):
    loss = getattr(keras.losses, name)(reduction=reduction)

    def compute(y, outputs, weights):
        value = loss(y, outputs, sample_weight=weights if is_weighted else None)
        return tf.reduce_mean(value) if reduction == "none" else value

    return compute


def rows(y, outputs):
    return keras.losses.MeanSquaredError(reduction="none")(y, outputs)


def losses():
    means = ["auto"] if IS_LEGACY else ["mean", "mean_with_sample_weight"]
    for reduction in ("sum", "sum_over_batch_size", "none", *means):
        for is_weighted in (False, True):
            name = f"{reduction} {'weighted' if is_weighted else 'unweighted'}"
            yield name, reduced("MeanSquaredError", reduction, is_weighted=is_weighted)
    yield "huber", reduced("Huber", "sum")
    yield "cosine", reduced("CosineSimilarity", "sum_over_batch_size")
    yield (
        "average by a constant",
        lambda y, outputs, weights: tf.nn.compute_average_loss(
            rows(y, outputs), sample_weight=weights, global_batch_size=BATCH
        ),
    )
    yield "average", lambda y, outputs, _: tf.nn.compute_average_loss(rows(y, outputs))
    yield (
        "average by rows",
        lambda y, outputs, _: tf.nn.compute_average_loss(
            rows(y, outputs), global_batch_size=tf.shape(y)[0]
        ),
    )
    yield (
        "over replicas",
        lambda y, outputs, _: (
            tf.reduce_mean(rows(y, outputs)) / tf.distribute.get_strategy().num_replicas_in_sync
        ),
    )
    yield (
        "scaled regularization",
        lambda y, outputs, _: (
            tf.reduce_mean(rows(y, outputs))
            + tf.nn.scale_regularization_loss(tf.nn.l2_loss(0 * outputs + 0.1) * 0 + 0.3)
        ),
    )


def on_default_strategy(step):
    @tf.function
    def run(*batch):
        return STRATEGY.reduce(
            tf.distribute.ReduceOp.SUM, STRATEGY.run(step, args=batch), axis=None
        )

    return run


WAYS = {
    "graph": tf.function,
    "eager": lambda step: step,
    "strategy.run": on_default_strategy,
    "decorated": nano_multiprocessing,
    "decorated above": lambda step: nano_multiprocessing(tf.function(step)),
    "decorated below": lambda step: tf.function(nano_multiprocessing(step)),
}

OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "clipped": lambda: keras.optimizers.AdamW(0.01, clipnorm=0.5),
    "of TensorFlow 1": lambda: tf.compat.v1.train.MomentumOptimizer(0.05, 0.9),
}
if IS_LEGACY:
    OPTIMIZERS["legacy"] = lambda: keras.optimizers.legacy.Adam(0.01)
else:
    OPTIMIZERS.pop("of TensorFlow 1")  # it does not accept Keras 3's variables


def train(way, optimizer, loss):
    model, metric = build(), keras.metrics.MeanSquaredError()

    def step(x, y, weights):
        with tf.GradientTape() as tape:
            outputs = model(x, training=True)
            value = loss(y, outputs, weights) + tf.add_n(model.losses)
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=True))
        metric.update_state(y, outputs, sample_weight=weights)
        return value

    run = way(step)
    values = [float(run(*batch)) for batch in batches()]
    weights = np.concatenate([w.ravel() for w in model.get_weights()]).tolist()
    return {"losses": values, "weights": weights, "metric": float(metric.result())}


def tested(way):
    """A step that returns values per row alongside a mean."""
    model, loss = build(), keras.losses.MeanSquaredError(reduction="none")

    def step(x, y, weights):
        outputs = model(x)
        each = loss(y, outputs)
        above = tf.reduce_sum(outputs, 1) > 0
        return {"outputs": outputs, "each": each, "above": above,
                "mean": tf.reduce_mean(each)}  # fmt: skip

    run = way(step)
    results = [run(*batch) for batch in batches()]
    return {f"{i} {k}": v.numpy().tolist() for i, r in enumerate(results) for k, v in r.items()}


class Largest(keras.metrics.Metric):
    """A custom metric whose state is not a sum."""

    def __init__(self):
        super().__init__()
        self.value = self.add_weight(name="value", shape=(), initializer="zeros")

    def update_state(self, value):
        self.value.assign(tf.maximum(self.value, value))

    def result(self):
        return tf.convert_to_tensor(self.value)


def tracked(way):
    """A step that returns metric results read at several times, under several names."""
    model, mean, by_row = build(), keras.metrics.Mean(), keras.metrics.Mean()
    root, pairs = keras.metrics.RootMeanSquaredError(), keras.metrics.AUC(num_thresholds=5)
    largest = Largest()

    @tf.function
    def read():
        return by_row.result()

    def step(x, y, _):
        outputs = model(x)
        mean.update_state(tf.reduce_mean(tf.square(outputs)))
        first = mean.result()
        mean.update_state(3 * tf.reduce_mean(outputs))
        by_row.update_state(outputs[:, 0])
        root.update_state(y, outputs)
        pairs.update_state(y[:, 0] > 0, tf.sigmoid(outputs[:, 0]))
        largest.update_state(tf.reduce_mean(tf.ones_like(outputs)))
        return {"first": first, "second": mean.result(), "again": mean.result(),
                "root": root.result(), "within": read(), "of it": tf.exp(by_row.result()),
                "largest": 1 if IS_LEGACY else largest.result(),  # Keras 2 always sums it
                "pairs": pairs.result()}  # fmt: skip

    run = way(step)
    results = [{k: float(v) for k, v in run(*batch).items()} for batch in batches()]
    metrics = (mean, by_row, root, pairs)
    return {"steps": results, "after": [float(metric.result()) for metric in metrics]}


def loops():
    names = list(dict(losses()))
    # Each loss takes one way with this package, and the other with the other one.
    for number, way in enumerate(("graph", "decorated below"), int(IS_LEGACY)):
        yield from ((way, "momentum", name) for name in names[number % 2 :: 2])
    for way in WAYS:
        yield from ((way, name, "sum weighted") for name in OPTIMIZERS)
    for way in ("eager", "strategy.run", "decorated"):
        for name in ("sum_over_batch_size weighted", "average by a constant", "over replicas"):
            yield way, "momentum", name


def main():
    every = dict(losses())
    for way in WAYS:
        if way != "strategy.run":
            print("RESULT", json.dumps([f"{way}, tested", tested(WAYS[way])]), flush=True)
    for way in ("graph", "decorated", "decorated above"):
        print("RESULT", json.dumps([f"{way}, tracked", tracked(WAYS[way])]), flush=True)
    for way, optimizer, loss in dict.fromkeys(loops()):
        result = train(WAYS[way], OPTIMIZERS[optimizer](), every[loss])
        print("RESULT", json.dumps([f"{way}, {optimizer}, {loss}", result]), flush=True)


if __name__ == "__main__":
    main()
