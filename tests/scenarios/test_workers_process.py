"""Unmodified scripts on two workers: strategies, custom loops, legacy Keras, refusals."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("tensorflow")

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

OWN = """
strategy = tf.distribute.MultiWorkerMirroredStrategy()
with strategy.scope():
    model = small(keras.layers.Dense(4))
    model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
history = model.fit(x, y, batch_size=8, epochs=2, verbose=0).history
if index == 0:
    model.save("chief.keras")
tell(weights=weights(model), replicas=strategy.num_replicas_in_sync, **history)
"""


def test_a_script_keeps_its_own_strategy(run):
    alone = run(OWN, workers=1)[1][0]
    _, told = run(OWN)

    assert [worker["replicas"] for worker in told] == [2, 2]
    assert told[0] == told[1]
    for ours, theirs in zip(told[0]["weights"], alone["weights"], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


LOOP = """
from nano_init import nano_multiprocessing
data = tf.data.Dataset.from_tensor_slices((x, y)).batch(13)
told = {}
def train(name, decorate):
    keras.utils.set_random_seed(1)
    model, optimizer = small(keras.layers.Dense(4)), keras.optimizers.SGD(0.1)
    metric = keras.metrics.MeanSquaredError()
    @decorate
    def step(x, y):
        with tf.GradientTape() as tape:
            outputs = model(x)
            loss = tf.reduce_mean(tf.square(outputs - y))
        metric.update_state(y, outputs)
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
        return loss
    losses = [float(step(*batch)) for batch in data]
    # The last batch has one row; a row lent to the other worker must not count.
    told[name] = [losses, *weights(model), float(metric.result())]
train("plain", tf.function)
train("above", lambda f: nano_multiprocessing(tf.function(f)))
train("below", lambda f: tf.function(nano_multiprocessing(f)))
train("eager", nano_multiprocessing)
tell(**told)
"""


def test_a_custom_loop_trains_the_same_with_and_without_the_decorator(run):
    alone = run(LOOP, workers=1)[1][0]
    result, told = run(LOOP)

    assert result.stderr.count("decorate it with nano_init.nano_multiprocessing") == 1
    assert told[0] == told[1]
    for name, values in told[0].items():
        for ours, theirs in zip(values, alone[name], strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-6, err_msg=name)


FIRST_USE = """
inputs = keras.Input((4,), dtype="int32")
hidden = keras.layers.Flatten()(keras.layers.Embedding(9, 3)(inputs))
model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
model.compile("adam", "mse")
ids = (100 * x[:, :1]).astype("int32") % 9 + np.zeros((1, 4), "int32")
model.fit(ids, y, batch_size=8, verbose=0)
tell(weights=weights(model))
"""


def test_a_variable_may_be_the_first_use_of_tensorflow(run):
    _, told = run(FIRST_USE)

    assert told[0] == told[1]


TERMINATED = """
import signal, time
class Terminate(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1 and index == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
model = small()
model.compile("sgd", "mse")
epochs = 3 if "HANDLED" in globals() else 10**6
model.fit(x, y, batch_size=8, epochs=epochs, verbose=0, callbacks=[Terminate()])
"""


def test_sigterm_ends_a_training_worker_at_once(run):
    """TensorFlow's coordination service installs a handler that only records the signal."""
    result, _ = run(TERMINATED, fails=True)

    assert result.returncode == 128 + signal.SIGTERM
    assert "was killed by SIGTERM" in result.stderr


def test_the_scripts_sigterm_handler_is_not_replaced(run):
    handler = """
import shutil
import signal
HANDLED = []
signal.signal(signal.SIGTERM, lambda *_: HANDLED.append(True))
"""
    _, told = run(handler + TERMINATED + "tell(handled=HANDLED)")

    assert [each["handled"] for each in told] == [[], [True]]


LATE = """
first = tf.constant(1.0) + 1
strategy = tf.distribute.MirroredStrategy()
with strategy.scope():
    model = small()
    model.compile("sgd", "mse")
tell(**model.fit(x, y, batch_size=8, verbose=0).history)
"""


def test_a_one_replica_strategy_may_be_created_after_the_first_use_of_tensorflow(run):
    """It uses its own worker's device, although TensorFlow lists those of all workers by then."""
    alone = run(LATE, workers=1)[1][0]
    _, told = run(LATE)

    assert told[0] == told[1]
    np.testing.assert_allclose(told[0]["loss"], alone["loss"], rtol=1e-5)


LEGACY = """
import tf_keras
tf_keras.utils.set_random_seed(1)
model = tf_keras.Sequential([
    tf_keras.layers.Dense(4), tf_keras.layers.BatchNormalization(), tf_keras.layers.Dense(1)])
model.compile("sgd", "mse", metrics=["mae"])
history = model.fit(x, y, batch_size=8, epochs=2, verbose=0, validation_split=0.2).history
tell(shape=model.predict(x, verbose=0).shape, weights=weights(model), **history)
"""


def test_legacy_keras_trains_all_workers_to_equal_weights(run):
    pytest.importorskip("tf_keras", reason="legacy Keras is not installed")
    _, told = run(LEGACY)

    assert told[0] == told[1]
    assert told[0]["shape"] == [40, 1]
    assert told[0]["loss"][1] < told[0]["loss"][0]


LEGACY_UNEVEN = """
import tf_keras
told = {}
# Shares of 4 and 3 rows, and of 3 and 2 in the last batch; then 7 and 6, and last 1 and none.
for size in (7, 13):
    tf_keras.utils.set_random_seed(1)
    model = tf_keras.Sequential([
        tf_keras.layers.Dense(4, activation="tanh", kernel_regularizer="l2"),
        tf_keras.layers.Dense(1)])
    model.compile(tf_keras.optimizers.SGD(0.1, momentum=0.9), "mse", metrics=["mae"])
    history = model.fit(x, y, sample_weight=np.linspace(0.5, 2, 40), batch_size=size, epochs=2,
        verbose=0, shuffle=False).history
    evaluated = model.evaluate(x, y, batch_size=size, verbose=0)
    told[str(size)] = [*weights(model), *history.values(), evaluated]
tell(**told)
"""


def test_legacy_keras_weighs_uneven_shares_by_their_rows(run):
    pytest.importorskip("tf_keras", reason="legacy Keras is not installed")
    alone = run(LEGACY_UNEVEN, workers=1)[1][0]
    _, told = run(LEGACY_UNEVEN)

    assert told[0] == told[1]
    for size, values in alone.items():
        for ours, theirs in zip(told[0][size], values, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5, err_msg=size)


def test_data_that_differs_between_workers_is_refused(run):
    script = """
model = small()
model.compile("sgd", "mse")
rng = np.random.default_rng(index)
model.fit(rng.random((8, 3)), rng.random((8, 1)), batch_size=4, verbose=0)
"""
    result, _ = run(script, fails=True)

    assert result.returncode == 1
    assert "the workers got different batches" in result.stderr


def test_data_that_ends_on_one_worker_first_is_refused(run):
    script = """
def batches():
    for number in range(4 - index):
        yield x[:8], y[:8]
model = small()
model.compile("sgd", "mse")
model.fit(batches(), verbose=0)
"""
    result, _ = run(script, fails=True)

    assert "data ended after 3 batches" in result.stderr


MIXED = """
from trainings import TRAININGS
told = {}
for name in ("arrays", "embedding", "masked"):
    keras.utils.set_random_seed(5)
    told[name] = TRAININGS[name]()
json.dump(told, open(f"told{index}", "w"), default=float)
"""


def test_mixed_bfloat16_and_compressed_gradients_work_on_workers(run, tmp_path):
    shutil.copy(Path(__file__).parent / "programs" / "trainings.py", tmp_path)
    exact = run(MIXED, workers=1)[1][0]
    _, mixed = run(MIXED, "--precision", "mixed_bfloat16", "--compress-gradients")

    assert mixed[0] == mixed[1]
    for name, values in exact.items():
        loss = values["loss"]
        assert mixed[0][name]["loss"] != loss
        np.testing.assert_allclose(mixed[0][name]["loss"], loss, rtol=0.03, err_msg=name)


SUMS = """
from nano_init.distributed import all_reduce
from nano_init.distributed.job_strategy import job_strategy
base = tf.constant(np.linspace(1, 2, 30_000) * (index + 1))
strategy = job_strategy()
told, is_aside = {}, []
def add_up(count):
    values = {
        "half": tf.cast(base[:5], tf.float16), "bfloat16": tf.cast(base[:5], tf.bfloat16),
        "scalar": tf.cast(base[7], tf.float32), "double": base[:6],
        "large": tf.cast(base, tf.float32),
        "matrix": tf.reshape(tf.cast(base[:6], tf.float32), (2, 3)),
        "unknown": tf.cast(base[:count], tf.float32), "empty": tf.zeros([0, 2]),
        "rows": tf.IndexedSlices(tf.ones([index + count, 2]), tf.range(index + count)),
    }
    weighted = all_reduce.all_reduce(list(values.values()), 0.25 * (index + 1))
    (whole,) = all_reduce.all_reduce([tf.constant([index + 1])])
    for value, total in zip(values.values(), weighted):
        assert value.dtype == total.dtype
    return {**dict(zip(values, weighted)), "whole": whole}
@tf.function
def nested(count):
    return add_up(count)
@tf.function
def loop(count):
    total = tf.zeros([3])
    for number in tf.range(4):
        (part,) = all_reduce.all_reduce([tf.fill([3], tf.cast(number * count, tf.float32))])
        # Only their order in the program distinguishes these two.
        first, second = nested(count), nested(count + 1)
        total += part + first["scalar"] + second["matrix"][0]
    return {"total": total}
@tf.function(jit_compile=True)
def compiled():
    is_aside.append(all_reduce._shared_group() is None)
    return tf.constant(0)
shares = all_reduce._shared_group() is not None
# TensorFlow's own collectives mix up the two calls in the loop.
for name, step in {"eager": add_up, "graph": nested, **({"loop": loop} if shares else {})}.items():
    results = strategy.run(step, args=(tf.constant(4),))
    told[name] = {
        key: (value.values if isinstance(value, tf.IndexedSlices) else tf.cast(value, "float64"))
        .numpy().tolist() for key, value in results.items()}
compiled()
tell(told=told, aside=is_aside, shares=shares, total=all_reduce.all_reduce_scalar(index + 0.5))
"""


def test_shared_memory_gives_the_sums_of_collectives_in_program_order(run):
    _, shared = run(SUMS)
    _, apart = run(SUMS, NANO_INIT_SHARED_MEMORY="0")

    assert [worker["shares"] for worker in (*shared, *apart)] == [True, True, False, False]
    assert shared[0] == shared[1]
    assert shared[0]["aside"] == [True]
    assert shared[0]["total"] == apart[0]["total"] == 2.0
    for name, values in apart[0]["told"].items():
        for key, value in values.items():
            np.testing.assert_allclose(
                shared[0]["told"][name][key], value, rtol=1e-2 if key == "bfloat16" else 1e-3,
                err_msg=f"{name} {key}",
            )  # fmt: skip
    base = 1.25 * np.linspace(1, 2, 30_000)
    expected = 2 * 4 * (0 + 1 + 2 + 3) + 4 * (base[7] + base[:3])
    np.testing.assert_allclose(shared[0]["told"]["loop"]["total"], expected, rtol=1e-6)
    rows = shared[0]["told"]["graph"]["rows"]
    assert rows == [[0.25, 0.25]] * 4 + [[0.5, 0.5]] * 5
