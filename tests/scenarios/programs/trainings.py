"""Small trainings, unaware of workers; prints the result of each.

Usage: trainings.py [NAME]...; one line of JSON for each training.
"""

from __future__ import annotations

import json
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf
from keras import layers

ROWS = 43  # batches of 8 leave one of 3, and no number of workers from 2 to 4 divides it


def data(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, 6)).astype("float32")
    return x, rng.integers(0, 3, ROWS)


def mlp(optimizer, loss=None, metrics=("accuracy",), **compiled):
    model = keras.Sequential([layers.Dense(8, activation="tanh"), layers.Dense(3)])
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss, metrics=list(metrics), **compiled)
    return model


def sgd(**options):
    return keras.optimizers.SGD(0.1, momentum=0.9, **options)


def outcome(model, history=None, **others):
    weights = {f"weight{i}": w.ravel()[:40].tolist() for i, w in enumerate(model.get_weights())}
    return {**weights, **(history.history if history else {}), **others}


def arrays():
    x, y = data()
    model = mlp(sgd())
    history = model.fit(
        x,
        y,
        batch_size=8,
        epochs=2,
        verbose=0,
        validation_split=0.3,
        class_weight={0: 1.0, 1: 2.0, 2: 0.5},
    )
    evaluated = model.evaluate(x, y, batch_size=10, verbose=0, return_dict=True)
    predicted = model.predict(x, batch_size=10, verbose=0)
    return outcome(model, history, evaluated=evaluated, predicted=predicted.tolist())


def sample_weights():
    x, y = data()
    model = mlp("rmsprop", weighted_metrics=["accuracy"], metrics=["mae"], loss="mse")
    weights = np.linspace(0.1, 2.0, ROWS)
    targets = keras.utils.to_categorical(y, 3)
    return outcome(
        model,
        model.fit(
            x,
            targets,
            sample_weight=weights,
            batch_size=8,
            verbose=0,
            validation_data=(x, targets, weights),
        ),
    )


def mean_by_weights():
    x, y = data()
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    model = mlp(sgd(), loss=loss)
    weights = np.linspace(0.1, 2.0, ROWS)
    return outcome(model, model.fit(x, y, sample_weight=weights, batch_size=8, verbose=0))


def sums():
    x, y = data()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    model = mlp(keras.optimizers.SGD(0.01), loss=loss)
    return outcome(model, model.fit(x, y, batch_size=8, verbose=0))


def tiny_batches():
    """Fewer rows than workers in each batch, and an AUC metric, which counts rows."""
    x, y = data()
    model = keras.Sequential([layers.Dense(4, activation="tanh"), layers.Dense(1, "sigmoid")])
    model.compile(sgd(), "binary_crossentropy", metrics=["accuracy", keras.metrics.AUC()])
    targets = (y > 0).astype("float32")
    history = model.fit(x[:5], targets[:5], batch_size=2, verbose=0, shuffle=False)
    predicted = model.predict(x[:5], batch_size=2, verbose=0)
    return outcome(model, history, predicted=predicted.tolist())


def tf_data():
    x, y = data()
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(ROWS).batch(8)
    model = mlp(sgd())
    history = model.fit(dataset, epochs=2, verbose=0, validation_data=dataset)
    return outcome(model, history)


def unknown_length():
    x, y = data()
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).filter(lambda x, y: y != 1).batch(4)
    model = mlp(sgd())
    return outcome(model, model.fit(dataset, epochs=2, verbose=0))


def endless():
    x, y = data()
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8, drop_remainder=True).repeat()
    model = mlp(sgd())
    return outcome(model, model.fit(dataset, epochs=2, steps_per_epoch=3, verbose=0))


def generator():
    x, y = data()

    def batches():
        while True:
            for start in range(0, ROWS, 8):
                yield x[start : start + 8], y[start : start + 8]

    model = mlp(sgd())
    return outcome(model, model.fit(batches(), epochs=2, steps_per_epoch=6, verbose=0))


class Sequence(keras.utils.PyDataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        x, y = data()
        return x[index * 8 : index * 8 + 8], y[index * 8 : index * 8 + 8]


def py_dataset():
    model = mlp(sgd())
    return outcome(model, model.fit(Sequence(workers=2), epochs=2, verbose=0))


def steps_per_execution():
    x, y = data()
    model = mlp(sgd(), steps_per_execution=4)
    history = model.fit(x, y, batch_size=8, verbose=0)
    return outcome(model, history, predicted=model.predict(x, batch_size=8, verbose=0).tolist())


def compiled():
    """XLA cannot compile communication between processes: the step runs uncompiled."""
    x, y = data()
    model = mlp(sgd(), jit_compile=True)
    history = model.fit(x[:32], y[:32], batch_size=8, verbose=0)
    return outcome(model, history, predicted=model.predict(x[:11], verbose=0).tolist())


def clipped():
    x, y = data()
    results = {}
    for name in ("clipnorm", "global_clipnorm", "clipvalue"):
        model = mlp(keras.optimizers.SGD(0.5, **{name: 0.02}))
        results |= {
            f"{name} {k}": v
            for k, v in outcome(model, model.fit(x, y, batch_size=8, verbose=0)).items()
        }
    return results


def accumulated():
    x, y = data()
    model = mlp(keras.optimizers.Adam(0.01, gradient_accumulation_steps=3, clipnorm=0.1))
    return outcome(model, model.fit(x, y, batch_size=8, epochs=2, verbose=0))


def averaged_weights():
    x, y = data()
    model = mlp(keras.optimizers.AdamW(0.01, use_ema=True, weight_decay=0.1))
    return outcome(model, model.fit(x, y, batch_size=8, epochs=2, verbose=0))


def embedding():
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 9, (ROWS, 4)), rng.normal(size=(ROWS, 1))
    model = keras.Sequential([layers.Embedding(9, 3), layers.Flatten(), layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.02), "mse")
    return outcome(model, model.fit(x, y, batch_size=8, epochs=2, verbose=0))


def masked():
    """The mean is over the unmasked steps of the whole batch, not of each share."""
    rng = np.random.default_rng(2)
    x = rng.integers(1, 9, (ROWS, 5))
    for row in range(ROWS):
        x[row, row % 5 :] = 0
    y = rng.integers(0, 3, (ROWS, 5))
    model = keras.Sequential(
        [
            layers.Embedding(9, 4, mask_zero=True),
            layers.LSTM(5, return_sequences=True),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(sgd(), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return outcome(model, model.fit(x, y, batch_size=8, verbose=0))


def regularized():
    x, y = data()
    model = keras.Sequential(
        [
            layers.Dense(8, kernel_regularizer="l2", activity_regularizer="l1"),
            layers.Dense(3, kernel_constraint="unit_norm"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(sgd(), loss)
    return outcome(model, model.fit(x, y, batch_size=8, verbose=0))


def synchronized_norm():
    x, y = data()
    model = keras.Sequential(
        [layers.Dense(8), layers.BatchNormalization(synchronized=True), layers.Dense(3)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(sgd(), loss)
    return outcome(model, model.fit(x, y, batch_size=8, epochs=2, verbose=0))


def moving_moments():
    """Each worker normalizes by the moments of its own rows; the moving moments are equal."""
    x, y = data()
    model = keras.Sequential(
        [layers.Dense(8), layers.BatchNormalization(), layers.Dropout(0.3), layers.Dense(3)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(sgd(), loss)
    history = model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    return outcome(model, history, predicted=model.predict(x, verbose=0).tolist())


class OwnStep(keras.Model):
    """A training step as in Keras's guide to custom steps, with its own mean metric."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)
        self.tracker = keras.metrics.Mean(name="own")
        self.steps = keras.metrics.Mean(name="steps")

    def call(self, x):
        return self.dense(x)

    @property
    def metrics(self):
        return [self.tracker, self.steps]

    def train_step(self, batch):
        x, y = batch
        with tf.GradientTape() as tape:
            logits = self(x, training=True)
            loss = tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
            )
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self.tracker.update_state(loss, sample_weight=tf.shape(x)[0])
        first = self.tracker.result()
        self.steps.update_state(loss)
        self.steps.update_state(2 * loss)
        again = {"first": first, "again": self.steps.result(), "of it": tf.exp(first)}
        return {**self.get_metrics_result(), **again}


def own_step():
    x, y = data()
    model = OwnStep()
    model.compile(sgd())
    return outcome(model, model.fit(x, y, batch_size=8, verbose=0))


def outputs():
    x, y = (part[:40] for part in data())  # Keras weighs the outputs' losses of full batches only
    inputs = keras.Input((6,))
    hidden = layers.Dense(4, activation="relu")(inputs)
    model = keras.Model(
        inputs, {"a": layers.Dense(1, name="a")(hidden), "b": layers.Dense(3, name="b")(hidden)}
    )
    model.compile(
        "adam",
        {"a": "mse", "b": keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
        loss_weights={"a": 0.5, "b": 2.0},
        metrics={"b": "accuracy"},
    )
    history = model.fit(x, {"a": x[:, :1], "b": y}, batch_size=8, verbose=0)
    predicted = model.predict(x, batch_size=8, verbose=0)
    return outcome(model, history, predicted={k: v.tolist() for k, v in predicted.items()})


def eager():
    x, y = data()
    model = mlp(sgd(), run_eagerly=True)
    history = model.fit(x[:11], y[:11], batch_size=8, verbose=0)
    return outcome(model, history, predicted=model.predict(x[:11], verbose=0).tolist())


def on_batch():
    x, y = data()
    model = mlp(sgd())
    trained = [float(v) for v in model.train_on_batch(x[:7], y[:7])]
    tested = [float(v) for v in model.test_on_batch(x[:7], y[:7])]
    predicted = model.predict_on_batch(x[:7]).tolist()
    return outcome(model, trained=trained, tested=tested, predicted=predicted)


def callbacks():
    x, y = data()
    model = mlp(sgd())
    with tempfile.TemporaryDirectory() as folder:
        history = model.fit(
            x,
            y,
            batch_size=8,
            epochs=6,
            verbose=0,
            validation_split=0.3,
            callbacks=[
                keras.callbacks.EarlyStopping(patience=1, restore_best_weights=True),
                keras.callbacks.ReduceLROnPlateau(patience=1),
                keras.callbacks.ModelCheckpoint(f"{folder}/best.keras", save_best_only=True),
                keras.callbacks.TerminateOnNaN(),
            ],
        )
    return outcome(model, history)


TRAININGS = {
    function.__name__: function
    for function in (
        arrays, sample_weights, mean_by_weights, sums, tiny_batches, tf_data, unknown_length,
        endless, generator, py_dataset, steps_per_execution, clipped, accumulated,
        averaged_weights, embedding, masked, regularized, synchronized_norm,
        compiled, moving_moments, own_step, outputs, eager, on_batch, callbacks,
    )
}  # fmt: skip


if __name__ == "__main__":
    for name in sys.argv[1:] or TRAININGS:
        keras.utils.set_random_seed(5)
        result = TRAININGS[name]()
        print("RESULT", json.dumps([name, result], default=float), flush=True)
