"""A script that starts processes for one call ends with the same state as with one process."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("numpy")
pytest.importorskip("tensorflow")

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

Run = Callable[..., "subprocess.CompletedProcess[str]"]

FIT = """
import json, tempfile
import keras, numpy as np, tensorflow as tf
from keras import layers
from nano_init import patch_tensorflow

patch_tensorflow()
rng = np.random.default_rng(0)
x, y = rng.normal(size=(43, 6)).astype("float32"), rng.integers(0, 3, 43)
WEIGHT = 2.0

@keras.saving.register_keras_serializable()
class Scale(layers.Layer):
    def __init__(self, by):
        super().__init__()
        self.by = by
    def call(self, inputs):
        return inputs * self.by

class Seen(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.losses = []
    def on_epoch_end(self, epoch, logs=None):
        self.losses.append(logs["loss"])

class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.out = layers.Dense(8, activation="tanh"), layers.Dense(3)
    def call(self, inputs):
        return self.out(self.hidden(inputs))

class Pair(keras.Model):  # no `call` and no config, like a GAN
    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second
    def compile(self, optimizers, loss_function):
        super().compile()
        self.optimizers, self.loss_function = optimizers, loss_function
        self.tracker = keras.metrics.Mean(name="loss")
    @property
    def metrics(self):
        return [self.tracker]
    def train_step(self, data):
        for part, optimizer in zip((self.first, self.second), self.optimizers):
            with tf.GradientTape() as tape:
                loss = self.loss_function(data[1], self.second(self.first(data[0])))
            gradients = tape.gradient(loss, part.trainable_variables)
            optimizer.apply_gradients(zip(gradients, part.trainable_variables))
            self.tracker.update_state(loss)
        return {"loss": self.tracker.result(), "again": self.tracker.result()}

class Aside(Pair):
    def call(self, inputs):  # accepts what its parts exchange, not the data
        return self.second(inputs)

def functional():
    inputs = keras.Input((6,))
    hidden = Scale(0.5)(layers.Dense(8, activation=lambda v: tf.tanh(v) * WEIGHT)(inputs))
    return keras.Model(inputs, layers.Dense(3)(hidden))

def weighted(target, output):
    loss = keras.losses.sparse_categorical_crossentropy(target, output, from_logits=True)
    return loss * WEIGHT

def from_arrays():
    arguments = dict(batch_size=8, validation_split=0.3, class_weight={0: 1.0, 1: 2.0, 2: 0.5})
    return (x, y), dict(arguments, epochs=9, verbose=2)

def from_a_generator():
    def batches():
        while True:
            rows = np.random.randint(0, 43, 8)
            yield x[rows], y[rows], np.linspace(0.1, 2, 8)
    endless = tf.data.Dataset.from_tensor_slices((x, y)).batch(10).repeat()
    validation = dict(validation_data=endless, validation_steps=2, validation_freq=2)
    return (batches(),), dict(validation, steps_per_epoch=3, initial_epoch=1, epochs=4, verbose=0)

def train(make, data, **processes):
    keras.utils.set_random_seed(3)
    model = make()
    rate = keras.optimizers.schedules.ExponentialDecay(0.05, 2, 0.9)
    model.compile(keras.optimizers.Adam(rate), weighted, metrics=["accuracy"])
    # Stops when the loss hardly falls, and restores the best weights.
    stop = keras.callbacks.EarlyStopping("loss", min_delta=0.2, restore_best_weights=True)
    seen, (arrays, options) = Seen(), data()
    history = model.fit(*arrays, callbacks=[seen, stop], **options, **processes)
    assert history is model.history and history.model is model
    return {
        "history": history.history, "epochs": history.epoch, "steps": history.params["steps"],
        "stopped": [model.stop_training, stop.stopped_epoch], "seen": seen.losses,
        "weights": [w.ravel().tolist() for w in model.get_weights()],
        "optimizer": [np.ravel(v.numpy()).tolist() for v in model.optimizer.variables],
        "metrics": [np.ravel(v.numpy()).tolist() for v in model.metrics_variables],
        "after": model.evaluate(x, y, verbose=0),
    }

def train_pair(kind, **processes):
    keras.utils.set_random_seed(3)
    first = keras.Sequential([keras.Input((6,)), layers.Dense(4, activation="tanh")])
    model = kind(first, keras.Sequential([keras.Input((4,)), layers.Dense(1)]))
    model.compile([keras.optimizers.Adam(0.05), keras.optimizers.SGD(0.1)],
                  lambda y, p: tf.reduce_mean(tf.square(p[:, 0] - tf.cast(y, tf.float32))))
    history = model.fit(x, y, batch_size=8, epochs=2, verbose=0, shuffle=False, **processes)
    weights = [w.ravel().tolist() for part in (first, model.second) for w in part.get_weights()]
    return {"history": history.history, "weights": weights, "count": float(model.tracker.count),
            "optimizers": [np.ravel(v).tolist() for o in model.optimizers for v in o.variables]}

told = {kind.__name__: [train_pair(kind), train_pair(kind, num_processes=2)]
        for kind in (Pair, Aside)}
for make, data in ((functional, from_arrays), (Subclassed, from_a_generator)):
    told[data.__name__] = [train(make, data), train(make, data, num_processes=2)]
with open("told.json", "w") as file:
    json.dump(told, file, default=float)
"""


def test_fit_in_two_processes_leaves_the_same_state_as_in_one(
    python: Run, tmp_path: Path, assert_close
) -> None:
    (tmp_path / "s.py").write_text(FIT)
    result = python("s.py", env={"TMPDIR": str(tmp_path)})
    assert result.returncode == 0, result.stderr

    for name, (alone, together) in json.loads((tmp_path / "told.json").read_text()).items():
        assert_close(alone, together, name, rtol=1e-6)
    epochs = [line for line in result.stdout.splitlines() if line.startswith("Epoch ")]
    half = len(epochs) // 2
    assert epochs[:half] == epochs[half:]  # the chief's progress, once
    assert {path.name for path in tmp_path.iterdir()} == {"s.py", "told.json"}


CELLS = [
    """
import nano_init.bigdl
from bigdl.nano.tf.keras import nano_multiprocessing, nano, nano_multiprocessing_loss
import tensorflow as tf, keras, numpy as np
""",
    """
def twice(v):
    return v * 2.0
def make():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((3,))
    return keras.Model(inputs, keras.layers.Dense(1, activation=twice)(inputs))
x = np.random.default_rng(0).random((40, 3), "float32")
y = x.sum(1, keepdims=True)
data = tf.data.Dataset.from_tensor_slices((x, y)).batch(13)
@nano_multiprocessing_loss()
def squares(target, output):
    return keras.ops.mean(tf.math.squared_difference(target, output), axis=-1)
metric = keras.metrics.MeanSquaredError()
@nano_multiprocessing
@tf.function
def train_step(inputs, model, loss, optimizer):
    features, labels = inputs
    with tf.GradientTape() as tape:
        predictions = model(features, training=True)
        value = loss(labels, predictions)
    told = value
    if value > 1000.0:  # only AutoGraph can trace it
        told = value * 0.0
    metric.update_state(labels, predictions)
    gradients = tape.gradient(value, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables))
    return told
def train(model, data, loss, optimizer, *, epochs=1):
    batches = (batch for _ in range(epochs) for batch in data)
    return [float(train_step(batch, model, loss, optimizer)) for batch in batches], model
""",
    """
results = []
def generate():
    for row, target in zip(x[:7], y):
        yield tf.constant(row[None]), tf.constant(target[None])
signature = (tf.TensorSpec((1, 3), tf.float32), tf.TensorSpec((1, 1), tf.float32))
for processes in (1, 2):
    model, optimizer = make(), keras.optimizers.Adam(0.01)
    metric.reset_state()
    run = nano(num_processes=processes)(train)
    losses, same = run(model, data, squares, optimizer, epochs=2)
    assert same is model
    rows = tf.data.Dataset.from_generator(generate, output_signature=signature)
    rows._GeneratorState = rows._GeneratorState(generate)  # as in BigDL-Nano's guide
    losses += run(model, rows, keras.losses.MeanSquaredError(), optimizer)[0]
    state = [np.asarray(v.value) for v in [*model.variables, *optimizer.variables]]
    results.append([losses, *state, float(metric.result())])
for one, two in zip(*results, strict=True):
    np.testing.assert_allclose(one, two, rtol=0, atol=2e-6)
print("steps", len(losses), int(optimizer.iterations))
""",
]

NOTEBOOK = """
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
for cell in CELLS:
    shell.run_cell(cell).raise_error()
"""


def test_a_training_function_in_a_notebook_trains_the_same_in_two_processes_as_in_one(
    python: Run, tmp_path: Path
) -> None:
    """It follows BigDL-Nano's guide to custom loops: step, loss, and data from a generator."""
    pytest.importorskip("IPython", reason="cells have no file")
    result = python("-c", f"CELLS = {CELLS!r}\n{NOTEBOOK}")

    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("steps 15 15\n")


FAILING = """
import json, os
import keras, numpy as np
from nano_init import patch_tensorflow
from nano_init.errors import WorkerError

patch_tensorflow()

class Fail(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 1:
            raise ValueError("no luck")

x = np.ones((8, 3), "float32")
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
before = model.get_weights()
try:
    model.fit(x, x[:, :1], epochs=2, verbose=0, callbacks=[Fail()], num_processes=2)
except WorkerError as error:
    print(error)
print(all(map(np.array_equal, before, model.get_weights())), int(model.optimizer.iterations))
"""


def test_a_worker_failure_raises_one_exception_and_leaves_the_model_unchanged(
    python: Run, tmp_path: Path
) -> None:
    (tmp_path / "s.py").write_text(FAILING)
    result = python("s.py", env={"TMPDIR": str(tmp_path)})

    lines = result.stdout.splitlines()
    assert lines[0] == "worker 1 of 2 failed: ValueError: no luck"
    assert 'raise ValueError("no luck")' in result.stdout
    assert f'{tmp_path / "s.py"}", line' in result.stdout
    assert lines[-1] == "True 0"
    assert "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["s.py"]
