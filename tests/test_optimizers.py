"""LazyAdam updates the rows that a gradient names like Adam, and leaves the others unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest

tf = pytest.importorskip("tensorflow", reason="optimizers need TensorFlow")

import keras  # noqa: E402
import numpy as np  # noqa: E402

from nano_init.optimizers import LazyAdam, SparseAdam  # noqa: E402

pytestmark = pytest.mark.tensorflow

ROWS = [4, 1, 4]


def variable() -> keras.Variable:
    return keras.Variable(np.arange(12, dtype="float32").reshape(6, 2))


def sparse() -> tf.IndexedSlices:
    return tf.IndexedSlices(tf.constant([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), ROWS, (6, 2))


def dense() -> tf.Tensor:
    return tf.convert_to_tensor(sparse())


@pytest.mark.parametrize("graph", [False, True])
def test_named_rows_match_adam_with_the_equivalent_dense_gradient(graph: bool) -> None:
    """Equal to float32 rounding, repeated rows included, if every step names the same rows."""
    lazy, adam = LazyAdam(0.1), keras.optimizers.Adam(0.1)
    ours, theirs = variable(), variable()
    lazy.build([ours])
    adam.build([theirs])

    def step() -> None:
        lazy.apply([sparse()])
        adam.apply([dense()])

    run = tf.function(step) if graph else step
    for _ in range(5):
        run()
    np.testing.assert_allclose(ours.numpy()[[1, 4]], theirs.numpy()[[1, 4]], rtol=1e-6)


def test_rows_that_a_gradient_does_not_name_stay_bitwise_unchanged() -> None:
    ours, optimizer = variable(), LazyAdam(0.1)
    optimizer.build([ours])
    optimizer.apply([sparse()])
    optimizer.apply([tf.IndexedSlices(tf.ones((1, 2)), [0], (6, 2))])
    after_one = ours.numpy()[4].copy()
    optimizer.apply([tf.IndexedSlices(tf.ones((1, 2)), [0], (6, 2))])
    np.testing.assert_array_equal(ours.numpy()[[2, 3, 5]], variable().numpy()[[2, 3, 5]])
    np.testing.assert_array_equal(ours.numpy()[4], after_one)


@pytest.mark.parametrize("amsgrad", [False, True])
def test_a_dense_gradient_gives_the_same_result_as_adam(amsgrad: bool) -> None:
    lazy, adam = LazyAdam(0.1, amsgrad=amsgrad), keras.optimizers.Adam(0.1, amsgrad=amsgrad)
    ours, theirs = variable(), variable()
    lazy.build([ours])
    adam.build([theirs])
    for _ in range(3):
        lazy.apply([dense()])
        adam.apply([dense()])
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_it_is_saved_and_loaded_with_a_model(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(LazyAdam(0.25), "mse")
    model.train_on_batch(np.ones((2, 2)), np.ones((2, 1)))
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert type(loaded.optimizer) is LazyAdam is SparseAdam
    assert float(loaded.optimizer.learning_rate) == 0.25
