"""Passes over small arrays in Keras 2 (`tf_keras`) give the batches of its pipeline, in order."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = [
    pytest.mark.tensorflow,
    # tf_keras 2.16 draws its seeds so.
    pytest.mark.filterwarnings("ignore:non-integer arguments to randrange"),
]

tf = pytest.importorskip("tensorflow")
tf_keras = pytest.importorskip("tf_keras")

data_adapter = pytest.importorskip("tf_keras.src.engine.data_adapter")
array_slices = pytest.importorskip("nano_init.keras_patch.faster.array_slices")
legacy_array_batches = pytest.importorskip("nano_init.keras_patch.faster.legacy_array_batches")

RNG = np.random.default_rng(1)
X = RNG.normal(size=(10, 3)).astype("float32")
Y = X.sum(1, keepdims=True)

DATA = {
    "one array": lambda: {"x": X},
    "labels": lambda: {"x": X, "y": Y},
    "weights": lambda: {"x": X, "y": Y, "sample_weight": np.arange(10.0)},
    "a dict": lambda: {"x": {"b": X, "a": np.arange(10)}, "y": Y},
    "lists": lambda: {"x": [X, X[:, :1]], "y": [Y, Y > 0], "sample_weight": [Y[:, 0]] * 2},
    "a list alone": lambda: {"x": [X, X[:, :1]]},
    "numbers": lambda: {"x": list(range(10)), "y": [0.5] * 10},
    "float64": lambda: {"x": X.astype("float64"), "y": Y.astype("float16")},
    "tensors": lambda: {"x": tf.constant(X), "y": tf.constant(Y, tf.bfloat16)},
    "not contiguous": lambda: {"x": X[::-1, ::2], "y": Y.T.reshape(-1, 1)},
}

# Neither small nor dense, or not all batches of an epoch in an order of rows.
OTHERS = {
    "classes": lambda: {"x": X, "y": np.arange(10) % 2, "class_weight": {0: 1.0, 1: 3.0}},
    "some weights": lambda: {"x": X, "y": [Y, Y], "sample_weight": [Y[:, 0], None]},
    "a number of steps": lambda: {"x": X, "steps_per_epoch": 2},
    "batches in random order": lambda: {"x": X, "shuffle": "batch"},
    "texts": lambda: {"x": np.array(["a"] * 10)},
    "ragged": lambda: {"x": tf.ragged.constant([[1, 2], [3]] * 5)},
    "sparse": lambda: {"x": tf.sparse.from_dense(X)},
    "large": lambda: {
        "x": np.zeros((4, array_slices.LARGEST // 4 + 1), "int8"),
        "shuffle": True,
    },
    "a dataset": lambda: {"x": tf.data.Dataset.from_tensor_slices(X).batch(4)},
    "a layer's adapt": lambda: {"x": X, "distribute": False},
    "no rows": lambda: {"x": X, "model": None},
}


class WithOwnFunction(tf_keras.Sequential):
    """Has a train function of its own, which may take several batches."""

    def make_train_function(self, force=False):
        return super().make_train_function(force)


def a_model(kind=tf_keras.Sequential, **options):
    model = kind([tf_keras.Input((3,)), tf_keras.layers.Dense(1)])
    model.compile("sgd", "mse", **options)
    return model


def handler(**data):
    data.setdefault("model", a_model())
    if isinstance(data["x"], tf.data.Dataset):
        data.pop("batch_size", None), data.pop("shuffle", None)
    return data_adapter.DataHandler(**data)


def is_short(handler):
    return isinstance(handler._dataset, legacy_array_batches.LegacyBatches)


def batches_of(handler):
    """Return the batches of all epochs as text, and the specification of their elements."""
    found, specs = [], set()
    for epoch, iterator in handler.enumerate_epochs():
        specs.add(str(iterator.element_spec))
        for step in handler.steps():
            parts = tf.nest.flatten(next(iterator), expand_composites=True)
            found.append((epoch, step, [(part.dtype, part.numpy().tolist()) for part in parts]))
    return str(found), specs


@pytest.mark.parametrize(("batch_size", "epochs"), [(3, 1), (3, 3), (5, 3), (10, 1), (16, 3)])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("data", DATA)
def test_batches_are_those_of_keras(only, data, shuffle, batch_size, epochs):
    tf.random.set_seed(7)
    options = {**DATA[data](), "shuffle": shuffle, "batch_size": batch_size, "epochs": epochs}
    expected = batches_of(handler(**options))
    with only("legacy_array_passes"):
        handler(**options)  # its order is unknown
        short = handler(**options)
        assert is_short(short)
        for _ in range(2):
            assert batches_of(short) == expected
        # Whoever else reads the dataset gets Keras's.
        rows = [tf.nest.flatten(b)[0].numpy().tolist() for b in short._dataset]
    assert rows == [tf.nest.flatten(b)[0].numpy().tolist() for b in handler(**options)._dataset]


@pytest.mark.parametrize("data", OTHERS)
def test_other_data_keeps_its_pipeline(only, data):
    tf.random.set_seed(7)
    expected = batches_of(handler(epochs=2, **OTHERS[data]()))
    with only("legacy_array_passes"):
        handler(epochs=2, **OTHERS[data]())
        found = handler(epochs=2, **OTHERS[data]())
        assert not is_short(found)
        assert batches_of(found) == expected


def test_a_function_or_a_strategy_of_the_script_keeps_the_pipeline(only):
    models = [a_model(WithOwnFunction), a_model(steps_per_execution="auto"), a_model()]
    models[2].make_test_function = lambda force=False: None
    with only("legacy_array_passes"):
        assert is_short(handler(x=X))
        assert not any(is_short(handler(x=X, model=model)) for model in models)
        with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
            assert not is_short(handler(x=X))
        adapter = data_adapter.TensorLikeDataAdapter(X, batch_size=4)
        assert isinstance(adapter.get_dataset(), tf.data.Dataset)


def test_errors_are_those_of_keras(only):
    def messages():
        for data in ({"x": X, "y": Y[:4]}, {"x": X[:0]}):
            with pytest.raises(ValueError, match=r"\w") as caught:
                handler(**data)
            yield str(caught.value)

    expected = list(messages())
    with only("legacy_array_passes"):
        assert list(messages()) == expected


@pytest.mark.parametrize(("epoch", "step"), [(0, 2), (1, 0), (1, 1)])
def test_a_training_continues_as_in_keras(only, epoch, step):
    """An epoch that starts late leaves batches to the next one."""

    def continued():
        tf.random.set_seed(7)
        found = handler(x=X, batch_size=3, epochs=3, shuffle=True)
        found._initial_epoch, found._initial_step = epoch, step
        return batches_of(found)

    expected = continued()
    with only("legacy_array_passes"):
        assert [continued() for _ in range(2)] == [expected] * 2


def test_the_number_of_passes_put_in_order_at_once_is_limited(only, monkeypatch):
    monkeypatch.setattr(legacy_array_batches, "_AT_ONCE", 2 * X.nbytes)
    tf.random.set_seed(7)
    options = {"x": X, "shuffle": True, "batch_size": 3, "epochs": 5}
    expected = batches_of(handler(**options))
    with only("legacy_array_passes"):
        handler(**options)
        short = handler(**options)
        assert batches_of(short) == expected
        assert len({id(iterator) for iterator in short._dataset.iterators()}) <= 3
        # More orders than are remembered.
        monkeypatch.setattr(legacy_array_batches, "_MOST_SEEDED", 49)
        assert not is_short(handler(**options))


def test_options_are_those_of_the_pipeline(only):
    options = tf.data.Options()
    options.deterministic = False
    with only("legacy_array_passes", "legacy_fit_stall"):
        batches = handler(x=X)._dataset.with_options(options)
        (iterator,) = batches.iterators()
        assert iterator._dataset.options().deterministic is False
        assert iterator._dataset.options().autotune.enabled is False
        assert batches.element_spec == tf.TensorSpec((None, 3))
        with pytest.raises(AttributeError, match="no_such_thing"):
            _ = batches.no_such_thing


def test_a_large_array_in_one_batch_and_its_own_order_is_not_copied(only):
    large = np.zeros((array_slices.LARGEST + 1,), "int8")
    with only("legacy_array_passes"):
        assert is_short(handler(x=large, batch_size=len(large)))
        assert not is_short(handler(x=large, batch_size=len(large) - 1))


def test_without_a_seed_each_pass_has_an_order_of_its_own(only):
    tf.random.set_seed(None)
    rows = np.arange(500)
    with only("legacy_array_passes"):
        short = handler(x=rows, batch_size=500, shuffle=True, epochs=2)
        orders = [
            next(iterator).numpy().tolist()
            for _ in range(2)
            for _, iterator in short.enumerate_epochs()
        ]
    assert is_short(short)
    assert all(sorted(order) == rows.tolist() for order in orders)
    assert len(set(map(tuple, orders))) == 4
