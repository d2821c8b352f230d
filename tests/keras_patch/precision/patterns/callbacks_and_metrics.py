"""Custom metrics and callbacks, and optimizer settings that change during training."""

from __future__ import annotations

import csv
import json
import os
import tempfile

import numpy as np
import tensorflow as tf
from registry import case, keras
from training import CLASSES, FEATURES, fit

layers = keras.layers


def classifier(*metrics, optimizer=None):
    model = keras.Sequential(
        [keras.Input((12,)), layers.Dense(16, "relu"), layers.Dense(4, "softmax")]
    )
    model.compile(
        optimizer or keras.optimizers.Adam(0.01),
        "sparse_categorical_crossentropy",
        metrics=list(metrics),
    )
    return model


def train(model, callbacks=(), epochs=3, **options):
    return model.fit(
        FEATURES,
        CLASSES,
        epochs=epochs,
        verbose=0,
        shuffle=False,
        callbacks=list(callbacks),
        **options,
    )


@case(legacy=True)
def confusion_matrix_summed_in_a_metric():
    class Matrix(keras.metrics.Metric):
        def __init__(self):
            super().__init__(name="matrix")
            self.total = self.add_weight(shape=(4, 4), initializer="zeros", name="total")

        def update_state(self, y, p, sample_weight=None):
            found = tf.math.confusion_matrix(tf.reshape(y, [-1]), tf.argmax(p, -1), num_classes=4)
            self.total.assign_add(tf.cast(found, self.total.dtype))

        def result(self):
            diagonal = tf.linalg.diag_part(tf.convert_to_tensor(self.total))
            union = tf.reduce_sum(self.total, 0) + tf.reduce_sum(self.total, 1) - diagonal
            return tf.reduce_mean(tf.math.divide_no_nan(diagonal, union))

        def reset_state(self):
            self.total.assign(tf.zeros((4, 4)))

    model = classifier(Matrix())
    history = train(model).history
    assert 0 < history["matrix"][-1] < 1
    return history["loss"][-1]


@case(legacy=True)
def metrics_of_functions_and_classes():
    def margin(y, p):
        top = tf.math.top_k(p, 2).values
        return top[:, 0] - top[:, 1]

    class F1(keras.metrics.Metric):
        def __init__(self):
            super().__init__(name="f1")
            self.hit = self.add_weight(name="hit", initializer="zeros")
            self.wrong = self.add_weight(name="wrong", initializer="zeros")

        def update_state(self, y, p, sample_weight=None):
            right = tf.equal(tf.cast(tf.reshape(y, [-1]), tf.int64), tf.argmax(p, 1))
            hits = tf.cast(right, tf.float32)
            if sample_weight is not None:
                hits = tf.multiply(hits, tf.cast(sample_weight, tf.float32))
            self.hit.assign_add(tf.reduce_sum(hits))
            self.wrong.assign_add(tf.reduce_sum(1.0 - hits))

        def result(self):
            return self.hit / (self.hit + self.wrong + keras.backend.epsilon())

    model = classifier(margin, F1(), "accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2))
    history = train(model).history
    assert abs(history["f1"][-1] - history["accuracy"][-1]) < 1e-3
    return history["loss"][-1] + history["margin"][-1]


@case(legacy=True)
def logs_written_as_json_and_csv():
    folder = tempfile.mkdtemp()

    class Recorder(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.rows = []

        def on_train_batch_end(self, batch, logs=None):
            self.rows.append({"batch": batch, **(logs or {})})

        def on_epoch_end(self, epoch, logs=None):
            with open(os.path.join(folder, "logs.json"), "w") as file:
                json.dump({"epoch": epoch, "logs": logs, "rows": self.rows}, file)

    recorder = Recorder()
    logger = keras.callbacks.CSVLogger(os.path.join(folder, "logs.csv"))
    train(classifier("accuracy"), [recorder, logger])
    with open(os.path.join(folder, "logs.json")) as file:
        written = json.load(file)
    with open(os.path.join(folder, "logs.csv")) as file:
        rows = list(csv.DictReader(file))
    assert len(written["rows"]) == 9
    return written["logs"]["loss"] + float(rows[-1]["loss"])


@case(legacy=True)
def learning_rate_searched_by_a_callback():
    class Finder(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.rates, self.losses = [], []

        def on_train_batch_begin(self, batch, logs=None):
            rate = 1e-4 * 1.6 ** len(self.rates)
            optimizer = self.model.optimizer
            if hasattr(optimizer.learning_rate, "assign"):
                optimizer.learning_rate.assign(rate)
            else:
                optimizer.learning_rate = rate
            self.rates.append(float(np.asarray(optimizer.learning_rate)))

        def on_train_batch_end(self, batch, logs=None):
            self.losses.append(logs["loss"])
            if np.isnan(logs["loss"]):
                self.model.stop_training = True

    finder = Finder()
    train(classifier(), [finder])
    assert np.allclose(finder.rates, 1e-4 * 1.6 ** np.arange(9), rtol=1e-5), finder.rates
    smooth = np.convolve(finder.losses, np.ones(3) / 3, "valid")
    return float(smooth[-1])


@case(legacy=True)
def weights_watched_and_restored():
    class Watch(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.best, self.kept, self.norms = np.inf, None, []

        def on_epoch_end(self, epoch, logs=None):
            weights = self.model.get_weights()
            assert all(w.dtype == np.float32 for w in weights)
            self.norms.append([float(np.linalg.norm(w)) for w in weights])
            np.histogram(weights[0], bins=5)
            inner = keras.Model(self.model.inputs, self.model.layers[0].output)
            np.quantile(inner(FEATURES[:4]).numpy(), [0.1, 0.9])
            if np.less(logs["loss"], self.best):
                self.best, self.kept = logs["loss"], weights

        def on_train_end(self, logs=None):
            self.model.set_weights(self.kept)

    watch = Watch()
    train(classifier(), [watch])
    return watch.norms[-1][0] + watch.best


@case(legacy=True)
def predictions_scored_by_scikit_learn():
    from sklearn.metrics import classification_report, log_loss

    class Report(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            found = self.model.predict(FEATURES, verbose=0)
            self.loss = log_loss(CLASSES, found.astype("float64"), labels=range(4))
            classification_report(CLASSES, found.argmax(1), output_dict=True, zero_division=0)
            logs["log_loss"] = self.loss

    report = Report()
    history = train(classifier(), [report]).history
    assert history["log_loss"][-1] == report.loss
    return report.loss


@case(legacy=True)
def schedule_warmed_up_in_a_class():
    class Warm(keras.optimizers.schedules.LearningRateSchedule):
        def __init__(self, width, warmup=4):
            super().__init__()
            self.width, self.warmup = tf.cast(width, tf.float32), warmup

        def __call__(self, step):
            step = tf.cast(step, dtype=tf.float32) + 1.0
            first, second = tf.math.rsqrt(step), step * self.warmup**-1.5
            return tf.math.rsqrt(self.width) * tf.math.minimum(first, second) * 0.1

    optimizer = keras.optimizers.Adam(Warm(16), beta_1=0.9, beta_2=0.98, epsilon=1e-9)
    return train(classifier(optimizer=optimizer)).history["loss"][-1]


@case(legacy=True)
def ready_callbacks_with_their_files():
    folder = tempfile.mkdtemp()
    callbacks = [
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: json.dumps(logs)),
        keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=10.0),
        keras.callbacks.ModelCheckpoint(os.path.join(folder, "best.keras"), save_best_only=True),
        keras.callbacks.TerminateOnNaN(),
    ]
    model = classifier("accuracy")
    history = train(model, callbacks, validation_data=(FEATURES[:32], CLASSES[:32])).history
    again = keras.models.load_model(os.path.join(folder, "best.keras"))
    found = again.evaluate(FEATURES[:32], CLASSES[:32], verbose=0)[0]
    return history["val_loss"][-1] + found


@case(legacy=True)
def constraint_and_magnitude_pruning():
    class Centred(keras.constraints.Constraint):
        def __call__(self, w):
            return w - tf.reduce_mean(w, 0) * tf.constant(0.5)

    class Prune(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            kernel, bias = self.model.layers[0].get_weights()
            kept = np.abs(kernel) >= np.quantile(np.abs(kernel), 0.3)
            self.model.layers[0].set_weights([kernel * kept, bias])

    model = keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(16, "relu", kernel_constraint=Centred()),
            layers.Dense(4, "softmax", kernel_constraint=keras.constraints.MaxNorm(1.0)),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    loss = train(model, [Prune()]).history["loss"][-1]
    assert np.mean(model.layers[0].get_weights()[0] == 0) > 0.25
    return loss


@case(legacy=True)
def sample_and_class_weights():
    weights = np.linspace(0.5, 1.5, 96).astype("float32")
    first = train(classifier(), sample_weight=weights).history["loss"][-1]
    second = train(classifier(), class_weight={0: 1.0, 1: 2.0, 2: 0.5, 3: 1.0}).history["loss"][-1]
    return first + second


@case(legacy=True)
def averages_kept_beside_the_weights():
    class Average(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.means = [tf.Variable(w) for w in self.model.get_weights()]

        def on_train_batch_end(self, batch, logs=None):
            for mean, weight in zip(self.means, self.model.weights):
                mean.assign(0.8 * mean + 0.2 * tf.convert_to_tensor(weight))

        def on_train_end(self, logs=None):
            self.model.set_weights([m.numpy() for m in self.means])

    model = classifier()
    train(model, [Average()])
    return model.evaluate(FEATURES, CLASSES, verbose=0)


@case
def optimizer_with_its_own_update():
    class Momentum(keras.optimizers.Optimizer):
        def build(self, variables):
            super().build(variables)
            self.speeds = [self.add_variable_from_reference(v, "speed") for v in variables]

        def update_step(self, gradient, variable, learning_rate):
            speed = self.speeds[self._get_variable_index(variable)]
            rate = keras.ops.cast(learning_rate, variable.dtype)
            gradient = gradient - keras.ops.mean(gradient, axis=0, keepdims=True) * 0.5
            self.assign(speed, 0.9 * speed + gradient)
            self.assign_sub(variable, rate * speed)

    return train(classifier(optimizer=Momentum(0.05))).history["loss"][-1]


@case(legacy=True)
def gradients_centred_before_they_are_applied():
    class Centred(keras.optimizers.RMSprop):
        def apply_gradients(self, pairs, *arguments, **options):
            pairs = [
                (g - tf.reduce_mean(g, list(range(g.ndim - 1)), keepdims=True), v)
                if g.ndim > 1
                else (g, v)
                for g, v in pairs
            ]
            return super().apply_gradients(pairs, *arguments, **options)

    optimizer = Centred(0.01)
    model = classifier(optimizer=optimizer)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(
            keras.losses.sparse_categorical_crossentropy(CLASSES, model(FEATURES))
        )
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(g.dtype == tf.float32 for g in gradients)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    return fit(model, FEATURES, CLASSES)
