"""Islands are used in graphs that train on few shapes, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from nano_init.keras_patch.faster import xla_fusion

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def seen(monkeypatch):
    """Return the shapes passed to `is_worth_an_island` during training, with its answers."""
    from nano_init.keras_patch.faster import activations

    answers = []

    def is_worth(tensor):
        answer = xla_fusion.is_worth_an_island(tensor)
        answers.append((tuple(tensor.shape), answer))
        return answer

    monkeypatch.setattr(activations, "is_worth_an_island", is_worth)
    return answers


def _model(*shape):
    import keras

    layers = [keras.layers.Dense(512, "silu"), keras.layers.Dense(1)]
    return keras.Sequential([keras.Input(shape), *layers])


def test_a_fit_with_a_smaller_last_batch(only, seen):
    """The batch size is unknown during tracing, but has only two values."""
    with only("activations"):
        model = _model(4)
        model.compile("sgd", "mse")
        model.fit(np.ones((40, 4)), np.ones((40, 1)), 32, verbose=0)
        assert ((None, 512), True) in seen
        seen.clear()
        model.predict(np.ones((40, 4)), verbose=0)
        model.evaluate(np.ones((40, 4)), np.ones((40, 1)), verbose=0)
    assert seen
    assert not any(answer for _, answer in seen)


def test_a_loop_with_an_unknown_batch_size_uses_no_islands(only, seen):
    import tensorflow as tf

    with only("activations"):
        model = _model(4)

        def trace(*shape):
            step = tf.function(lambda x: model(x, training=True))
            step.get_concrete_function(tf.TensorSpec(shape))
            return seen[-1]

        assert trace(None, 4) == ((None, 512), False)
        assert trace(32, 4) == ((32, 512), True)


def test_a_sequence_of_unknown_length(only, seen):
    with only("activations"):
        model = _model(None, 4)
        model.compile("sgd", "mse")
        model.fit(np.ones((32, 6, 4)), np.ones((32, 6, 1)), verbose=0)
    assert not any(answer for shape, answer in seen if shape[1] is None)


def test_a_tensorflow_without_a_compiler_uses_no_islands(monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(xla_fusion, "has_compiler", lambda: False)

    def answer(tensor):
        answers.append(xla_fusion.is_large_in_graph(tensor))
        return tensor

    answers: list[bool] = []
    tf.function(answer).get_concrete_function(tf.TensorSpec((512, 512)))
    assert answers == [False]


def test_an_island_is_one_function_for_all_its_calls():
    """Layers of the same shape are therefore traced and compiled once."""
    import tensorflow as tf

    traces = []

    @xla_fusion.compiled
    def twice(tensor):
        traces.append(tensor.shape)
        return 2.0 * tensor

    @tf.function
    def call(tensor):
        return twice(twice(tensor))

    assert call(tf.ones((3, 4))).numpy().tolist() == [[4.0] * 4] * 3
    assert len(traces) == 1
