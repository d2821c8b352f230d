"""Passes over small arrays give the batches of Keras's pipeline, in its order."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

trainer = pytest.importorskip("keras.src.backend.tensorflow.trainer")
array_data_adapter = pytest.importorskip("keras.src.trainers.data_adapters.array_data_adapter")
data_adapter = pytest.importorskip("keras.src.trainers.data_adapters.data_adapter")
array_slices = pytest.importorskip("nano_init.keras_patch.faster.array_slices")
array_batches = pytest.importorskip("nano_init.keras_patch.faster.array_batches")

RNG = np.random.default_rng(1)
X = RNG.normal(size=(10, 3)).astype("float32")
Y = X.sum(1, keepdims=True)

DATA = {
    "one array": lambda: {"x": X},
    "labels": lambda: {"x": X, "y": Y},
    "weights": lambda: {"x": X, "y": Y, "sample_weight": np.arange(10.0)},
    "classes": lambda: {"x": X, "y": np.arange(10) % 2, "class_weight": {0: 1.0, 1: 3.0}},
    "a dict": lambda: {"x": {"b": X, "a": np.arange(10)}, "y": Y},
    "lists": lambda: {"x": [X, X[:, :1]], "y": [Y, Y > 0]},
    "float64": lambda: {"x": X.astype("float64"), "y": Y.astype("float16")},
    "tensors": lambda: {"x": tf.constant(X), "y": tf.constant(Y, tf.bfloat16)},
    "not contiguous": lambda: {"x": X[::-1, ::2], "y": Y.T.reshape(-1, 1)},
}

# Neither small nor dense, or not in an order of rows.
OTHERS = {
    "batches in random order": lambda: {"x": X, "shuffle": "batch"},
    "texts": lambda: {"x": np.array(["a"] * 10, object)},
    "ragged": lambda: {"x": tf.ragged.constant([[1, 2], [3]] * 5)},
    "sparse": lambda: {"x": tf.sparse.from_dense(X)},
    "large": lambda: {"x": np.zeros((array_slices.LARGEST + 1,), "int8"), "shuffle": True},
    "a dataset": lambda: {"x": tf.data.Dataset.from_tensor_slices(X).batch(4)},
}


def epochs_of(shuffle=True, batch_size=4, **data):
    if isinstance(data["x"], tf.data.Dataset):
        shuffle, batch_size = False, None
    return trainer.TFEpochIterator(
        tf.distribute.get_strategy(), shuffle=shuffle, batch_size=batch_size, **data
    )


def is_short(epochs):
    return isinstance(epochs._get_iterator(), array_batches.ArrayBatches)


def passes_of(epochs, count=3):
    """Return the batches of some passes as text, and the specification of their elements."""
    passes = [iter(epochs._get_iterator()) for _ in range(count)]
    specs = [each.element_spec for each in passes]
    batches = [
        [tf.nest.map_structure(lambda t: (t.dtype, t.numpy().tolist()), b) for b in each]
        for each in passes
    ]
    return str(batches), specs


@pytest.mark.parametrize("batch_size", [1, 3, 5, 10, 16])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("data", DATA)
def test_batches_are_those_of_keras(only, data, shuffle, batch_size):
    tf.random.set_seed(7)
    data = DATA[data]()
    expected = passes_of(epochs_of(shuffle, batch_size, **data))
    with only("array_passes"):
        epochs = epochs_of(shuffle, batch_size, **data)
        assert is_short(epochs)
        assert passes_of(epochs) == expected


@pytest.mark.parametrize("data", OTHERS)
def test_other_data_keeps_its_pipeline(only, data):
    with only("array_passes"):
        assert not is_short(epochs_of(**OTHERS[data]()))


def test_the_rest_of_a_dataset_is_that_of_keras(only):
    with only("array_passes"):
        batches = epochs_of(batch_size=5, x=X)._get_iterator()
        assert batches.element_spec == tf.TensorSpec((5, 3))
        assert len(list(batches.take(1))) == 1
        with pytest.raises(AttributeError, match="no_such_thing"):
            _ = batches.no_such_thing


def test_options_are_those_of_the_pipeline(only):
    options = tf.data.Options()
    options.deterministic = False
    with only("array_passes", "fit_stall"):
        batches = epochs_of(x=X)._get_iterator().with_options(options)
        for dataset in (iter(batches)._dataset, iter(batches)._dataset):
            assert dataset.options().deterministic is False
            assert dataset.options().autotune.enabled is False


def test_a_large_array_in_one_batch_and_its_own_order_is_not_copied(only):
    large = np.zeros((array_slices.LARGEST + 1,), "int8")
    with only("array_passes"):
        assert is_short(epochs_of(False, len(large), x=large))
        assert not is_short(epochs_of(False, len(large) - 1, x=large))


def test_without_a_seed_each_pass_has_an_order_of_its_own(only):
    tf.random.set_seed(None)
    rows = np.arange(500)
    with only("array_passes"):
        epochs = epochs_of(batch_size=500, x=rows)
        first, second = (next(iter(epochs._get_iterator())).numpy() for _ in range(2))
    assert sorted(first) == sorted(second) == rows.tolist()
    assert first.tolist() != second.tolist()


def test_a_new_seed_gives_a_new_order(only):
    orders = []
    for seed in (1, 2, 1):
        tf.random.set_seed(seed)
        with only("array_passes"):
            orders.append(passes_of(epochs_of(x=np.arange(500))))
    assert orders[0] == orders[2] != orders[1]


def test_an_order_draws_no_random_numbers_of_the_script(only):
    def draw():
        keras.utils.set_random_seed(3)
        next(iter(epochs_of(x=X)._get_iterator()))
        return float(tf.random.normal([])), float(np.random.rand())

    expected = draw()
    with only("array_passes"):
        assert draw() == expected


def _under_strategy(monkeypatch):
    return tf.distribute.OneDeviceStrategy("cpu:0"), trainer.TFEpochIterator


def _as_subclass(monkeypatch):
    return tf.distribute.get_strategy(), type("Own", (trainer.TFEpochIterator,), {})


def _in_debug_mode(monkeypatch):
    from tensorflow.python.data.ops import debug_mode

    monkeypatch.setattr(debug_mode, "DEBUG_MODE", True)


def _with_determinism(monkeypatch):
    from tensorflow.python.framework import config

    monkeypatch.setattr(config, "is_op_determinism_enabled", lambda: True)


def _with_eager_functions(monkeypatch):
    monkeypatch.setattr(tf.config, "functions_run_eagerly", lambda: True)


def _with_another_seed(monkeypatch):
    from tensorflow.python.eager import context

    monkeypatch.setattr(context, "global_seed", lambda: np.array(3))


def _wrapped_by_the_script(monkeypatch):
    adapter = array_data_adapter.ArrayDataAdapter
    original = adapter.get_tf_dataset
    monkeypatch.setattr(
        adapter,
        "get_tf_dataset",
        lambda self: tf.data.Dataset.zip((original(self), tf.data.Dataset.range(9))),
    )


ASIDE = [
    _under_strategy,
    _as_subclass,
    _in_debug_mode,
    _with_determinism,
    _with_eager_functions,
    _with_another_seed,
    _wrapped_by_the_script,
]


@pytest.mark.parametrize("change", ASIDE, ids=lambda change: change.__name__)
def test_steps_aside(only, change, monkeypatch):
    with only("array_passes"):
        strategy, kind = change(monkeypatch) or _in_general(monkeypatch)
        epochs = kind(strategy, x=X, batch_size=4)
        assert not is_short(epochs)
        if change in (_under_strategy, _as_subclass):
            assert is_next_pass_started(epochs)


def _in_general(monkeypatch):
    return tf.distribute.get_strategy(), trainer.TFEpochIterator


def is_next_pass_started(epochs):
    """Say whether there is an iterator after the last batch, as in Keras."""
    for _ in epochs:
        pass
    return hasattr(epochs._current_iterator, "get_next")


def test_steps_aside_where_ops_are_watched(only):
    with only("array_passes"):
        tf.debugging.enable_check_numerics()
        try:
            assert not is_short(epochs_of(x=X))
        finally:
            tf.debugging.disable_check_numerics()


@pytest.mark.parametrize("kind", [float, np.float32, tf.constant], ids=lambda kind: kind.__name__)
def test_a_batch_size_that_is_no_integer_is_left_to_keras(only, kind):
    size = kind(4)

    def result():
        try:
            return is_short(epochs_of(True, size, x=X))
        except Exception as error:  # noqa: BLE001 (the error is the result)
            return str(error).splitlines()[0]

    expected = result()
    with only("array_passes"):
        assert result() == expected
        assert is_short(epochs_of(True, np.int64(4), x=X))


class Zipped(data_adapter.DataAdapter):
    """Two adapters of arrays, as a script may combine them."""

    def __init__(self):
        self._both = [array_data_adapter.ArrayDataAdapter(X, batch_size=5) for _ in range(2)]

    def get_tf_dataset(self):
        return tf.data.Dataset.zip(tuple(each.get_tf_dataset() for each in self._both))

    @property
    def num_batches(self):
        return 2

    @property
    def batch_size(self):
        return 5


def test_an_adapter_of_adapters_gets_their_datasets(only):
    with only("array_passes"):
        assert len(list(epochs_of(False, None, x=Zipped())._get_iterator())) == 2


def test_a_batch_has_memory_of_its_own(only):
    """An operation in place on a batch does not change the script's tensor."""
    for rows, batch_size in ((10, 10), (10, 4), (3, 4)):
        mine = tf.constant(X[:rows])
        before = mine.numpy().copy()
        with only("array_passes"):
            batches = list(epochs_of(False, batch_size, x=mine)._get_iterator())
            tf.raw_ops.InplaceAdd(x=batches[-1], i=[0], v=tf.ones([1, 3]))
        assert np.array_equal(mine.numpy(), before)


def test_the_adapter_gives_others_a_dataset(only):
    with only("array_passes"):
        assert isinstance(epochs_of(x=X).data_adapter.get_tf_dataset(), tf.data.Dataset)


def trained(**options):
    keras.utils.set_random_seed(5)
    layers = [keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dropout(0.5)]
    model = keras.Sequential([*layers, keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    history = model.fit(X, Y, batch_size=4, epochs=3, verbose=0, **options).history
    scores = model.evaluate(X, Y, batch_size=4, verbose=0)
    return history, scores, model.predict(X, verbose=0).tolist(), model.predict(X[:1], verbose=0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"validation_split": 0.3},
        {"validation_data": (X, Y)},
        {"steps_per_epoch": 3},
        {"steps_per_epoch": 1},
    ],
    ids=str,
)
def test_trainings_are_the_same(only, options):
    expected = trained(**options)
    with only("array_passes"):
        assert trained(**options) == expected


def test_an_iterator_after_a_pass_has_all_batches(only):
    with only("array_passes"):
        epochs = epochs_of(x=X)
        for _ in range(2):
            assert len(list(epochs)) == 3
            assert len(list(epochs._get_iterator())) == 3
        epochs.reset()
        assert len(list(epochs._get_iterator())) == 3


def test_no_pass_is_started_that_nobody_reads(only, monkeypatch):
    started = []
    make = array_batches.ArrayBatches.__iter__
    monkeypatch.setattr(
        array_batches.ArrayBatches, "__iter__", lambda self: (started.append(1), make(self))[1]
    )
    tf.random.set_seed(None)
    with only("array_passes"):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        model.fit(X, Y, batch_size=4, epochs=3, verbose=0)
        assert len(started) == 3
        # Here a pass goes on in the next epoch.
        model.fit(X, Y, batch_size=5, epochs=2, steps_per_epoch=1, verbose=0)
        assert len(started) == 5


def test_a_fit_that_stops_at_the_last_batch_may_go_on(only):
    class GoOn(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 2

        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = False

    expected = trained(callbacks=[GoOn()])
    with only("array_passes"):
        assert trained(callbacks=[GoOn()]) == expected


def test_unpatching_restores_keras(only):
    before = trainer.TFEpochIterator.__init__, trainer.TFEpochIterator._get_iterator
    with only("array_passes"):
        assert trainer.TFEpochIterator.__init__ is not before[0]
    assert (trainer.TFEpochIterator.__init__, trainer.TFEpochIterator._get_iterator) == before
