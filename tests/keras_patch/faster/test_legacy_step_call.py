"""Steps of Keras 2 (`tf_keras`) are called directly, with the numbers of `tf.function`."""

from __future__ import annotations

import concurrent.futures
import copy
import sys

import numpy as np
import pytest

from nano_init.keras_patch.own_frames import OWN_PATH

pytestmark = [
    pytest.mark.tensorflow,
    # tf_keras 2.16 draws its seeds so.
    pytest.mark.filterwarnings("ignore:non-integer arguments to randrange"),
    pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions"),
]

tf = pytest.importorskip("tensorflow")
tf_keras = pytest.importorskip("tf_keras")

legacy_step_call = pytest.importorskip("nano_init.keras_patch.faster.legacy_step_call")

X = np.random.default_rng(1).normal(size=(20, 4)).astype("float32")
Y = np.arange(20) % 3
FUNCTIONS = ("train_function", "test_function", "predict_function")


def batches(rows=20, size=5):
    return tf.data.Dataset.from_tensor_slices((X[:rows], Y[:rows])).batch(size)


def a_model(kind=tf_keras.Sequential, **options):
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(3)
    layers = tf_keras.layers
    # What XLA draws differs between calls.
    rate = 0.0 if options.get("jit_compile") else 0.3
    stack = [tf_keras.Input((4,)), layers.Dropout(rate), layers.Dense(3, "softmax")]
    model = kind(stack)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], **options)
    return model


def numbers(**options):
    """Return what some calls with batches of several sizes give."""
    model = a_model(**options)
    found = []
    for rows, size in ((20, 5), (20, 5), (18, 5), (12, 4), (20, 5)):
        data = batches(rows, size)
        found.append(model.fit(data, epochs=2, verbose=0).history)
        found.append(model.evaluate(data, verbose=0))
        found.append(model.predict(data, verbose=0).tolist())
    return found, [weight.tolist() for weight in model.get_weights()]


OPTIONS = [{}, {"run_eagerly": True}, {"steps_per_execution": 2}, {"jit_compile": True}]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("paths", [(), ("legacy_array_passes", "legacy_one_trace")])
def test_numbers_are_those_of_keras(only, options, paths):
    expected = numbers(**options)
    with only("legacy_step_call", *paths):
        assert str(numbers(**options)) == str(expected)


def count_calls(monkeypatch):
    """Return a list that records the calls of `tf.function` that look up their graph."""
    from tensorflow.python.eager.polymorphic_function.polymorphic_function import Function

    calls, call = [], Function.__call__

    def counted(self, *args, **kwargs):
        calls.append(self)
        return call(self, *args, **kwargs)

    monkeypatch.setattr(Function, "__call__", counted)
    return calls


def test_a_graph_is_looked_up_once_for_equal_batches(only, monkeypatch):
    calls = count_calls(monkeypatch)
    with only("legacy_one_trace", "legacy_step_call"):
        model = a_model()
        for _ in range(3):
            model.fit(batches(), epochs=2, verbose=0)
            model.evaluate(batches(), verbose=0)
            model.predict(batches(), verbose=0)
        for name in FUNCTIONS:
            function = getattr(model, name)
            assert calls.count(function) == function.experimental_get_tracing_count() == 1


def test_a_step_is_still_a_function_of_tensorflow(only):
    def names_of_children():
        model = a_model()
        model.fit(batches(), verbose=0)
        return sorted(model._trackable_children()), repr(type(model.train_function))

    expected = names_of_children()
    with only("legacy_step_call"):
        assert names_of_children() == expected


def test_functions_that_run_eagerly_and_graphs_are_called_as_before(only):
    with only("legacy_step_call"):
        model = a_model()
        model.fit(batches(), verbose=0)
        iterator = iter(batches())
        tf.config.run_functions_eagerly(True)
        try:
            losses = [float(model.train_function(iterator)["loss"])]
        finally:
            tf.config.run_functions_eagerly(False)
        losses.append(float(tf.function(lambda: model.train_function(iterator)["loss"])()))
        losses.append(float(model.train_function(iterator)["loss"]))
    assert np.isfinite(losses).all()
    assert int(model.optimizer.iterations) == 4 + 3


def test_what_a_script_makes_is_not_changed(only):
    class Model(tf_keras.Sequential):
        def make_train_function(self, force=False):
            return lambda iterator: {"loss": tf.reduce_sum(next(iterator)[0])}

    def own(iterator):
        return {"loss": tf.constant(2.0)}

    with only("legacy_step_call"):
        assert a_model(Model).fit(batches(), verbose=0).history["loss"][0] != 0.0
        model = a_model()
        model.train_function = own
        assert model.fit(batches(), verbose=0).history == {"loss": [2.0]}
        assert model.train_function is own


def test_a_step_in_a_strategy_is_not_changed(only):
    from tensorflow.python.eager.polymorphic_function.polymorphic_function import Function

    with only("legacy_step_call"):
        with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
            # Without `clear_session`, which would reset the scope.
            model = tf_keras.Sequential([tf_keras.Input((4,)), tf_keras.layers.Dense(3)])
            model.compile("sgd", "mse")
        model.fit(X, X[:, :3], verbose=0)
        assert type(model.train_function) is Function


def test_a_model_that_is_compiled_again_has_new_steps(only):
    with only("legacy_step_call"):
        model = a_model()
        model.fit(batches(), verbose=0)
        model.compile(tf_keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
        before = model.get_weights()
        model.fit(batches(), verbose=0)
    np.testing.assert_array_equal(before[0], model.get_weights()[0])


def test_the_end_of_the_data_is_noticed(only, caplog):
    def steps_and_warning():
        model = a_model()
        model.fit(batches(), verbose=0)
        caplog.clear()
        model.fit(batches(), steps_per_epoch=9, epochs=2, verbose=0)
        return int(model.optimizer.iterations), caplog.messages

    expected = steps_and_warning()
    with only("legacy_step_call"):
        assert steps_and_warning() == expected


def test_steps_in_several_threads(only):
    with only("legacy_step_call"):
        model = a_model()
        expected = model.predict(batches(), verbose=0)
        model.predict(batches(20, 4).take(5), verbose=0)

        def call(size):
            iterator = iter(batches(20, size))
            return np.concatenate(
                [model.predict_function(iterator).numpy() for _ in range(20 // size)]
            )

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for found in pool.map(call, [5, 4, 10, 5] * 4):
                np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 keeps one frame")
@pytest.mark.parametrize("is_first", [True, False])
def test_an_error_of_a_step_shows_no_frame_of_the_package(only, is_first):
    with only("legacy_step_call"):
        function = a_model().make_train_function()
        iterator = iter(batches(5).take(0 if is_first else 1))
        if not is_first:
            function(iterator)
        with pytest.raises(tf.errors.OutOfRangeError) as caught:
            function(iterator)
    assert not any(str(entry.path).startswith(OWN_PATH) for entry in caught.traceback)


@pytest.mark.filterwarnings("ignore:.*HDF5 file")
@pytest.mark.parametrize("file", ["model", "model.keras", "model.h5"])
def test_a_model_is_saved_copied_and_read(only, file, tmp_path):
    with only("legacy_step_call"):
        model = a_model()
        model.fit(batches(), verbose=0)
        expected = model.predict(batches(), verbose=0)
        model.save(str(tmp_path / file))
        checkpoint = tf.train.Checkpoint(model=model).save(str(tmp_path / "checkpoint"))
        copies = [tf_keras.models.load_model(str(tmp_path / file)), copy.deepcopy(model)]
        model.set_weights([0.0 * weight for weight in model.get_weights()])
        tf.train.Checkpoint(model=model).restore(checkpoint).assert_consumed()
        for each in (model, *copies):
            np.testing.assert_array_equal(each.predict(batches(), verbose=0), expected)
            each.fit(batches(), verbose=0)
