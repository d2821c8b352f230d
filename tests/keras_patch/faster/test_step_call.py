"""Steps that are called directly behave as in Keras: numbers, end of data, errors, switches."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow


def _data(rows=22, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, 6), "float32"), rng.standard_normal((rows, 3), "float32")


def _model(cls=None, metrics=(), **options):
    import keras

    keras.utils.set_random_seed(1)
    inputs = keras.Input((6,))
    hidden = keras.layers.Dropout(0.2, seed=3)(keras.layers.Dense(4, "relu")(inputs))
    model = (cls or keras.Model)(inputs, keras.layers.Dense(3)(hidden))
    model.compile("sgd", "mse", metrics=metrics, **options)
    return model


def _trained(model, *, epochs=2, as_dataset=False):
    import tensorflow as tf

    x, y = _data()
    if as_dataset:
        # The length is unknown after a filter, so a step reaches the end of the data.
        pairs = tf.data.Dataset.from_tensor_slices((x, y)).filter(lambda *_: True).batch(4)
        history = model.fit(pairs, epochs=epochs, verbose=0, shuffle=False, validation_data=pairs)
    else:
        history = model.fit(
            x, y, batch_size=4, epochs=epochs, shuffle=False, verbose=0, validation_split=0.2
        )
    logs = [np.asarray(history.history[name]) for name in sorted(history.history)]
    return [
        *logs,
        *(w.numpy() for w in model.weights),
        *(v.numpy() for v in model.optimizer.variables),
    ]


@pytest.mark.parametrize(
    ("options", "as_dataset"),
    [({}, False), ({}, True), ({"jit_compile": True}, False), ({"steps_per_execution": 2}, True)],
)
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_fit_and_its_validation_give_identical_numbers(only, options, as_dataset):
    """Also with partial batches, an unknown length, a compiled step and blocks of steps."""
    expected = _trained(_model(**options), as_dataset=as_dataset)
    with only("step_call"):
        found = _trained(_model(**options), as_dataset=as_dataset)
    for mine, keras_own in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, keras_own)


def test_steps_are_called_directly_from_the_second_step_of_an_iterator(only, monkeypatch):
    """They bypass `tf.function`, which runs only the first step of an iterator."""
    import keras
    from tensorflow.python.eager.polymorphic_function.polymorphic_function import Function

    looked_up = []
    call = Function.__call__

    def counted(self, *args):
        looked_up.append(self)
        return call(self, *args)

    def train():
        model = _model(metrics=["mae", keras.metrics.F1Score(threshold=0.5)])
        model.make_train_function()
        _run(model, steps=2)
        looked_up.clear()
        with monkeypatch.context() as patched:
            patched.setattr(Function, "__call__", counted)
            outputs = _run(model, steps=5)
        return outputs, len(looked_up)

    assert train()[1] == 5
    with only("step_call"):
        outputs, count = train()
    assert count == 1
    assert set(outputs) == {"loss", "mae", "f1_score"}
    assert outputs["f1_score"].shape == (3,)


def _run(model, *, steps, batch=4):
    import tensorflow as tf

    batches = iter(tf.data.Dataset.from_tensor_slices(_data()).batch(batch).repeat())
    for _ in range(steps):
        outputs = model.train_function(batches)
    return outputs


def test_data_with_different_shapes_and_dtypes_equal_keras(only):
    """Each iterator runs its own graph."""
    import tensorflow as tf

    def train():
        model = _model()
        for batch, dtype in ((4, "float32"), (6, "float64")):
            x, y = (part.astype(dtype) for part in _data())
            pairs = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch, drop_remainder=True)
            model.fit(pairs, epochs=2, shuffle=False, verbose=0)
        return [w.numpy() for w in model.weights]

    expected = train()
    with only("step_call"):
        found = train()
    for mine, keras_own in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, keras_own)


def test_the_end_of_the_data_raises_out_of_range(only):
    import tensorflow as tf

    with only("step_call"):
        model = _model()
        model.make_train_function()
        batches = iter(tf.data.Dataset.from_tensor_slices(_data(8)).batch(4))
        model.train_function(batches)
        model.train_function(batches)
        with pytest.raises(tf.errors.OutOfRangeError):
            model.train_function(batches)


def test_an_error_in_a_step_is_raised_and_training_can_continue(only):
    import tensorflow as tf

    with only("step_call"):
        model = _model()
        model.make_train_function()
        x, y = _data(8)
        good = tf.data.Dataset.from_tensors((x, y))
        bad = good.map(lambda x, y: (tf.debugging.check_numerics(x / 0.0, "no number"), y))
        batches = iter(good.concatenate(bad).concatenate(good))
        model.train_function(batches)
        with pytest.raises(tf.errors.InvalidArgumentError, match="no number"):
            model.train_function(batches)
        assert np.isfinite(model.train_function(batches)["loss"])


@pytest.mark.parametrize("outputs", ["a list", "a number", "a tuple"])
def test_outputs_that_keras_converts_are_still_converted(only, outputs):
    """Keras's optional turns a list or a number into a tensor."""
    import keras
    import tensorflow as tf

    class Odd(keras.Model):
        def train_step(self, data):
            logs = super().train_step(data)
            odd = {
                "a list": [logs["loss"], logs["loss"]],
                "a number": 3.0,
                "a tuple": (logs["loss"], logs["loss"]),
            }
            return {**logs, "odd": odd[outputs]}

    def last():
        model = _model(Odd)
        model.make_train_function()
        return _run(model, steps=3)["odd"], model.optimizer.iterations.numpy()

    expected, steps = last()
    with only("step_call"):
        found, found_steps = last()
    assert steps == found_steps == 3
    assert type(found) is type(expected)
    for mine, keras_own in zip(tf.nest.flatten(found), tf.nest.flatten(expected), strict=True):
        np.testing.assert_array_equal(mine, keras_own)


def test_eager_runs_and_strategies_use_the_step_of_keras(only):
    import tensorflow as tf

    with only("step_call"):
        eager = _model(run_eagerly=True)
        _trained(eager, epochs=1)
        with tf.distribute.OneDeviceStrategy("/cpu:0").scope():
            spread = _model()
        _trained(spread, epochs=1)
    assert not hasattr(eager.train_function, "__wrapped__")
    assert not hasattr(spread.train_function, "__wrapped__")


def test_switching_to_eager_functions_applies_from_the_next_step(only):
    import keras
    import tensorflow as tf

    seen = []

    class Watching(keras.Model):
        def train_step(self, data):
            seen.append(tf.executing_eagerly())
            return super().train_step(data)

    with only("step_call"):
        model = _model(Watching)
        model.make_train_function()
        batches = iter(tf.data.Dataset.from_tensor_slices(_data()).batch(4).repeat())
        for _ in range(3):
            model.train_function(batches)
        assert not any(seen)
        tf.config.run_functions_eagerly(True)
        try:
            model.train_function(batches)
        finally:
            tf.config.run_functions_eagerly(False)
    assert seen[-1]


def test_iterators_and_models_are_freed_when_dropped(only):
    import tensorflow as tf

    with only("step_call"):
        model = _model()
        model.make_train_function()
        batches = iter(tf.data.Dataset.from_tensor_slices(_data()).batch(4))
        model.train_function(batches)
        model.train_function(batches)
        iterator, whole = weakref.ref(batches), weakref.ref(model)
        del batches
        gc.collect()
        assert iterator() is None
        del model
        gc.collect()
        assert whole() is None


def test_a_saved_model_continues_as_in_keras(only, tmp_path):
    import keras

    def saved_and_trained(name):
        model = _model()
        _trained(model, epochs=1)
        model.save(tmp_path / name)
        return _trained(keras.models.load_model(tmp_path / name), epochs=1)

    expected = saved_and_trained("keras.keras")
    with only("step_call"):
        found = saved_and_trained("path.keras")
    for mine, keras_own in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, keras_own)
