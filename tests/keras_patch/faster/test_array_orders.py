"""The seed and the rows of a pass are those of the moment when `fit` began."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

array_slices = pytest.importorskip("nano_init.keras_patch.faster.array_slices")
array_batches = pytest.importorskip("nano_init.keras_patch.faster.array_batches")


def test_a_seeded_order_is_looked_for_when_it_comes_again():
    """To find it takes as long as one call, which a new number of rows would not get back."""
    asked = []

    def get_dataset(adapter):
        asked.append(adapter._num_samples)
        return tf.data.Dataset.from_tensors(tf.range(adapter._num_samples, dtype=tf.int64))

    tf.random.set_seed(1)
    orders = array_batches.seeded_orders(get_dataset)
    assert all(orders.orders(rows, 1) is None for rows in range(5))
    assert asked == []
    assert [orders.orders(3, 1).numpy().tolist() for _ in range(2)] == [[[0, 1, 2]]] * 2
    assert asked == [3]
    assert orders.orders(3, 2) is None
    assert orders.orders(3, 2) is None, "seed 2 is not in use"
    for rows in range(100):
        orders.orders(rows, 1)
    assert len(orders._orders) <= array_slices._MOST_ORDERS


class Seeds(keras.callbacks.Callback):
    """Sets seeds and rows of the data while `fit` runs."""

    def __init__(self, seeds, rows=None):
        super().__init__()
        self.seeds, self.rows = seeds, rows

    def on_epoch_begin(self, epoch, logs=None):
        tf.random.set_seed(self.seeds[epoch])
        if self.rows is not None:
            self.rows[:] = epoch


def rows_seen(first_seed, callback, x):
    """Return the rows of each batch of an eager model, as it is trained."""
    seen = []

    class Model(keras.Model):
        def train_step(self, data):
            seen.append(np.ravel(data).tolist())
            return {"loss": 0.0}

    tf.random.set_seed(first_seed)
    model = Model()
    model.compile("sgd", run_eagerly=True)
    model.fit(x, batch_size=5, epochs=4, verbose=0, callbacks=[callback])
    return seen


def test_the_seed_is_that_when_fit_began(only):
    for first, seeds in ((11, [1, 2, 3, 4]), (11, [None] * 4)):
        expected = rows_seen(first, Seeds(seeds), np.arange(10))
        for _ in range(2):  # the order is unknown, then known
            with only("array_passes"):
                assert rows_seen(first, Seeds(seeds), np.arange(10)) == expected
    with only("array_passes"):
        seen = rows_seen(None, Seeds([3] * 4), np.arange(500))
    assert seen[:100] != seen[100:200]


def test_the_rows_are_those_when_fit_began(only):
    for seed in (None, 11):
        x = np.arange(10)
        with only("array_passes"):
            seen = rows_seen(seed, Seeds([seed] * 4, x), x)
        assert all(sorted(seen[i] + seen[i + 1]) == list(range(10)) for i in range(0, 8, 2))


def test_a_number_of_rows_that_does_not_come_again_costs_one_pipeline(only, monkeypatch):
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    made = []
    original = ArrayDataAdapter.get_tf_dataset
    monkeypatch.setattr(
        ArrayDataAdapter, "get_tf_dataset", lambda self: (made.append(1), original(self))[1]
    )
    # Patched on top of it, so that it counts Keras's own pipelines.
    with only("array_passes"):
        for rows in (6, 7, 8):
            rows_seen(11, Seeds([11] * 4), np.arange(rows))
    # One for the first pass and one to find the order for the three others.
    assert len(made) == 6
    made.clear()
    with only("array_passes"):
        tf.random.set_seed(11)
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        for rows in (6, 7, 8):
            model.fit(np.ones((rows, 1)), np.ones(rows), verbose=0)
        assert len(made) == 3
        for rows in (6, 7, 8):
            model.fit(np.ones((rows, 1)), np.ones(rows), verbose=0)
            model.fit(np.ones((rows, 1)), np.ones(rows), verbose=0)
        assert len(made) == 6
