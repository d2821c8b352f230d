"""A `fit` of Keras 2 (`tf_keras`) does not wait for the autotuning thread of tf.data."""

from __future__ import annotations

import _thread

import numpy as np
import pytest

pytestmark = [
    pytest.mark.tensorflow,
    # tf_keras 2.16 draws its seeds so.
    pytest.mark.filterwarnings("ignore:non-integer arguments to randrange"),
]

tf = pytest.importorskip("tensorflow")
tf_keras = pytest.importorskip("tf_keras")


@pytest.fixture
def started(monkeypatch):
    """Return a list that records the threads that the path starts."""
    functions = []
    start = _thread.start_new_thread

    def noting(function, arguments):
        functions.append(function)
        return start(function, arguments)

    monkeypatch.setattr(_thread, "start_new_thread", noting)
    return functions


def _adapter(x, **options):
    from tf_keras.src.engine import data_adapter

    return data_adapter.TensorLikeDataAdapter(x, batch_size=4, **options)


@pytest.mark.parametrize("shuffle", [True, False, "batch"])
def test_batches_of_arrays_have_the_same_order(only, shuffle):
    def batches():
        tf_keras.utils.set_random_seed(5)
        data = _adapter(np.arange(23), epochs=2, shuffle=shuffle).get_dataset()
        return data, [tf.nest.flatten(b)[0].numpy().tolist() for b in data]

    _, expected = batches()
    with only("legacy_fit_stall"):
        data, found = batches()
    assert found == expected
    assert data.options().autotune.enabled is False


class ArrayLike:
    """Has what Keras asks of an array, but is none."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __len__(self):
        return len(self.array)

    def __getitem__(self, index):
        return self.array[index]


@pytest.mark.parametrize("kind", [ArrayLike, lambda x: tf.data.Dataset.from_tensors(x)])
def test_other_pipelines_keep_their_tuning(only, kind):
    from tf_keras.src.engine import data_adapter

    with only("legacy_fit_stall"):
        data = data_adapter.DataHandler(kind(np.zeros((8, 2), "float32")))._dataset
        assert data.options().autotune.enabled is None


@pytest.mark.parametrize("call", ["fit", "evaluate", "predict"])
@pytest.mark.parametrize("is_array", [True, False])
def test_a_separate_thread_destroys_tuned_pipelines_alone(only, started, call, is_array):
    x = np.zeros((8, 4), "float32")
    model = tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(4)])
    model.compile("sgd", "mse")
    with only("legacy_fit_stall"):
        if is_array:
            data = (x,) if call == "predict" else (x, x)
        else:
            pairs = tf.data.Dataset.from_tensor_slices((x, x))
            data = (pairs.map(lambda a, b: (a + 1.0, b)).batch(4).prefetch(1),)
        getattr(model, call)(*data, verbose=0)
    assert bool(started) != is_array


def test_generators_are_closed_when_fit_returns(only):
    closed = []

    def rows():
        try:
            while True:
                yield np.zeros(4, "float32"), np.zeros(4, "float32")
        finally:
            closed.append(1)

    spec = tf.TensorSpec([4])
    data = tf.data.Dataset.from_generator(rows, output_signature=(spec, spec))
    data = data.map(lambda a, b: (a + 1.0, b), num_parallel_calls=2).batch(4)
    model = tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(4)])
    model.compile("sgd", "mse")
    with only("legacy_fit_stall"):
        model.fit(data, steps_per_epoch=5, verbose=0)
        assert closed == [1]
