"""Destroying an iterator does not wait for the autotuning thread of tf.data."""

from __future__ import annotations

import _thread
import gc
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from nano_init.keras_patch.faster import fit_stall
from nano_init.keras_patch.faster.pipeline_end import generator_passes

pytestmark = pytest.mark.tensorflow

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

# A pause replaces the training: at its end the thread sleeps for a hundred milliseconds or more,
# so that waiting for it differs clearly from the work of destroying an iterator.
SCRIPT = """
import sys, time
import numpy as np
import tensorflow as tf
import keras
from nano_init import patch_tensorflow
if sys.argv[1] == "patched":
    patch_tensorflow()
x = np.zeros((64, 4), "float32")

def pipeline():
    data = tf.data.Dataset.from_tensor_slices((x, x)).repeat()
    return data.map(lambda a, b: (a + 1, b), num_parallel_calls=tf.data.AUTOTUNE).batch(8)

class Pause(keras.callbacks.Callback):
    def on_train_end(self, logs=None):
        time.sleep(0.2)
        self.end = time.perf_counter()

def by_loop():
    batches = iter(pipeline())
    for _ in range(10):
        next(batches)
    time.sleep(0.2)
    end = time.perf_counter()
    del batches
    return time.perf_counter() - end

model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
model.compile("sgd", "mse")

def by_fit(*args, **kwargs):
    pause = Pause()
    model.fit(*args, verbose=0, callbacks=[pause], **kwargs)
    return time.perf_counter() - pause.end

ways = {
    "loop": by_loop,
    "fit": lambda: by_fit(pipeline(), shuffle=False, steps_per_epoch=8),
    "arrays": lambda: by_fit(x, x, batch_size=8),
}
for name, way in ways.items():
    way()
    print(name, sum(way() > 0.05 for _ in range(int(sys.argv[2]))), flush=True)
"""


def _stalls(kind, rounds):
    """Return how often destroying an iterator took longer than 50 ms, per way of iterating."""
    environ = {**os.environ, "PYTHONPATH": ROOT, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", SCRIPT, kind, str(rounds)]
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, check=True, timeout=120
    )
    return {name: int(n) for name, n in (line.split() for line in done.stdout.splitlines())}


@pytest.mark.slow
def test_the_path_removes_the_wait_of_plain_tensorflow():
    plain = _stalls("plain", 8)
    if plain["loop"] < 2:
        pytest.skip("this TensorFlow, here and now, does not wait for its autotuning thread")
    # On a busy machine, single rounds may be late despite the path.
    assert sum(_stalls("patched", 8).values()) < sum(plain.values()) / 2


EXIT = """
import sys, time
import tensorflow as tf
import keras
from nano_init import patch_tensorflow
patch_tensorflow()
data = tf.data.Dataset.range(1000).repeat()
for _ in range(8):
    batches = iter(data.map(lambda x: x + 1, num_parallel_calls=tf.data.AUTOTUNE).batch(8))
    next(batches)
    time.sleep(0.3)
    del batches
print("done", flush=True)
"""


@pytest.mark.slow
def test_the_process_exits_cleanly_while_iterators_are_destroyed():
    environ = {**os.environ, "PYTHONPATH": ROOT, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", EXIT], env=environ, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


def _tuned():
    import tensorflow as tf

    return tf.data.Dataset.range(5).map(lambda x: x + 1, num_parallel_calls=tf.data.AUTOTUNE)


def _started(monkeypatch):
    """Return a list that records the threads that the path starts from now on."""
    started = []
    start = _thread.start_new_thread

    def noting(function, arguments):
        started.append(function)
        return start(function, arguments)

    monkeypatch.setattr(_thread, "start_new_thread", noting)
    return started


def test_a_tuned_iterator_is_destroyed_in_a_separate_thread(only, monkeypatch):
    started = _started(monkeypatch)
    with only("fit_stall"):
        assert [int(x) for x in _tuned()] == [1, 2, 3, 4, 5]
        assert len(started) == 1


def test_untuned_iterators_and_those_in_a_graph_are_destroyed_in_place(only, monkeypatch):
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    started = _started(monkeypatch)
    with only("fit_stall"):
        assert len(list(_tuned().with_options(options))) == 5
        total = tf.function(lambda: _tuned().reduce(tf.constant(0, tf.int64), tf.add))()
        first = tf.function(lambda: next(iter(_tuned())))()
        assert (int(total), int(first), started) == (15, 1, [])


@pytest.mark.parametrize("devices", [["CPU:0"], None])
def test_the_pipeline_of_a_strategy_is_destroyed_in_place(only, monkeypatch, devices):
    """It ends with an iterator of its own, which only this thread can wait for."""
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(devices)
    started = _started(monkeypatch)
    with only("fit_stall"):
        batches = iter(strategy.experimental_distribute_dataset(_tuned()))
        assert int(strategy.experimental_local_results(next(batches))[0]) == 1
        del batches
        gc.collect()
        assert started == []


class Noted:
    """Records when it is dropped."""

    def __init__(self, name, dropped):
        self.name, self.dropped = name, dropped

    def __del__(self):
        self.dropped.append(self.name)


@pytest.mark.parametrize("has_ended", [False, True])
def test_a_pipeline_is_dropped_after_its_iterator_but_kept_at_exit(monkeypatch, has_ended):
    """A thread that drops its functions during the exit aborts the process."""
    monkeypatch.setattr(fit_stall, "_has_ended", False)
    if has_ended:
        fit_stall._note_the_end()
    dropped = []
    held = [Noted("pipeline", dropped), Noted("iterator", dropped)]

    fit_stall._drop(held)

    assert dropped == (["iterator"] if has_ended else ["iterator", "pipeline"])


def test_iteration_works_if_the_thread_cannot_start(only, monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_thread, "start_new_thread", refuse)
    with only("fit_stall"):
        assert len(list(_tuned())) == 5


@pytest.mark.parametrize("shuffle", [True, False, "batch"])
def test_batches_of_arrays_have_the_same_order(only, shuffle):
    import keras
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    def batches():
        keras.utils.set_random_seed(5)
        x = np.arange(23)
        adapter = ArrayDataAdapter(x, -x, batch_size=4, shuffle=shuffle)
        data = adapter.get_tf_dataset()
        return data, [np.array(b).tolist() for _ in range(2) for b in data]

    _, expected = batches()
    with only("fit_stall"):
        data, found = batches()
    assert found == expected
    assert data.options().autotune.enabled is False


def test_options_of_a_pipeline_of_the_script_are_kept(only):
    import tensorflow as tf
    from keras.src.trainers.epoch_iterator import EpochIterator

    with only("fit_stall"):
        data = EpochIterator(_tuned().batch(2)).data_adapter.get_tf_dataset()
        assert data.options().autotune.enabled is None
        assert isinstance(data, tf.data.Dataset)


def _kept_open(kind, opened, closed):
    """Return a pipeline whose generator records in lists when it opens and closes."""
    import tensorflow as tf

    def rows():
        opened.append(len(opened))
        try:
            for _ in range(40 if kind == "finite" else 10**6):
                yield np.zeros(4, "float32"), np.zeros(4, "float32")
        finally:
            time.sleep(0.05)  # closing may take some time
            closed.append(None)

    def source(_=None):
        spec = tf.TensorSpec([4])
        return tf.data.Dataset.from_generator(rows, output_signature=(spec, spec))

    data = source()
    if kind == "repeated":
        data = data.take(9).repeat()
    if kind == "nested":
        data = tf.data.Dataset.range(2).interleave(source, cycle_length=2)
    data = data.map(lambda a, b: (a + 1, b), num_parallel_calls=tf.data.AUTOTUNE)
    return data.batch(8).prefetch(tf.data.AUTOTUNE)


@pytest.mark.parametrize("kind", ["forever", "finite", "repeated", "nested"])
@pytest.mark.parametrize("call", ["fit", "evaluate", "predict", "loop"])
def test_generators_are_closed_when_the_call_returns(only, kind, call):
    import keras

    opened, closed = [], []
    with only("fit_stall"):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
        model.compile("sgd", "mse")
        data = _kept_open(kind, opened, closed)
        if call == "loop":
            batches = iter(data)
            next(batches)
            del batches
        elif call == "fit":
            model.fit(data, steps_per_epoch=5, shuffle=False, verbose=0)
        else:
            getattr(model, call)(data, steps=5, verbose=0)
        assert len(closed) == len(opened) > 0


def test_a_generator_works_with_keras_and_tf_keras_in_one_process():
    """Both paths replace the same functions of TensorFlow."""
    import tensorflow as tf

    from nano_init.keras_patch.faster.fit_stall import iterator_replacements
    from nano_init.keras_patch.ledger import Ledger

    ledgers = [Ledger(), Ledger()]
    try:
        for ledger in ledgers:
            ledger.apply(iterator_replacements())
        spec = tf.TensorSpec((), tf.int32)
        data = tf.data.Dataset.from_generator(lambda: iter([1, 2]), output_signature=spec)
        assert [int(each) for each in data] == [1, 2]
        assert generator_passes(data) == ({}, False)
    finally:
        for ledger in reversed(ledgers):
            ledger.restore()


def test_another_iterator_of_the_same_generator_continues(only):
    opened, closed = [], []
    with only("fit_stall"):
        data = _kept_open("forever", opened, closed)
        first, second = iter(data), iter(data)
        next(first), next(second)
        del first
        assert (len(opened), len(closed)) == (2, 1)
        assert next(second)[0].shape == (8, 4)


@pytest.mark.parametrize("name", ["", "cache"])
def test_a_pipeline_that_writes_a_file_is_destroyed_in_place(only, monkeypatch, tmp_path, name):
    started = _started(monkeypatch)
    with only("fit_stall"):
        batches = iter(_tuned().cache(str(tmp_path / name) if name else ""))
        next(batches)
        del batches
        assert len(started) == (0 if name else 1)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("has_generator", [False, True])
def test_a_pipeline_that_calls_python_is_destroyed_in_place(only, monkeypatch, has_generator):
    import tensorflow as tf

    def rows():
        yield from range(3)

    def call(x):
        return tf.numpy_function(lambda x: x, [x], tf.int64)

    started = _started(monkeypatch)
    with only("fit_stall"):
        data = _tuned()
        if has_generator:
            spec = tf.TensorSpec([], tf.int64)
            data = tf.data.Dataset.from_generator(rows, output_signature=spec)
        batches = iter(data.map(call, num_parallel_calls=tf.data.AUTOTUNE))
        list(batches)
        del batches
        assert started == []
