"""Steps whose size follows from norms are Keras's, in the corner cases of the norms too."""

from __future__ import annotations

import numpy as np
import pytest

from nano_init.keras_patch.faster import xla_fusion
from nano_init.keras_patch.faster.scaled_step import norm, subtract_scaled

pytestmark = pytest.mark.tensorflow

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")


@pytest.fixture(autouse=True)
def _any_size(monkeypatch):
    """Let islands update weights of any size."""
    monkeypatch.setattr(xla_fusion, "_FEWEST_ELEMENTS", 1)


def trained(weight, gradient):
    """Return a weight and Lamb's variables after three steps with the same gradient."""
    optimizer = keras.optimizers.Lamb(0.1)
    variable = keras.Variable(weight)
    optimizer.build([variable])
    step = tf.function(lambda: optimizer.apply([tf.constant(gradient)], [variable]))
    for _ in range(3):
        step()
    return [np.array(each) for each in (variable, *optimizer.variables)]


def numbers(*shape):
    return np.random.default_rng(1).standard_normal(shape).astype("float32")


def test_a_norm_is_the_root_of_the_sum_of_squares():
    assert float(norm(tf.constant([[3.0], [4.0]]))) == pytest.approx(5.0)


def test_a_direction_of_any_rank_is_subtracted_in_the_shape_of_the_variable():
    variable = tf.Variable(tf.ones((2, 2)))
    subtract_scaled(variable, tf.constant(0.5), tf.range(4.0))
    assert variable.numpy().tolist() == [[1.0, 0.5], [0.0, -0.5]]


@pytest.mark.parametrize("zero", ["weight", "gradient", "both", "neither"])
def test_lamb_takes_steps_of_the_learning_rate_where_a_norm_is_zero(only, zero, assert_close):
    weight = numbers(4, 3) * (zero not in ("weight", "both"))
    gradient = numbers(4, 3) * (zero not in ("gradient", "both"))
    expected = trained(weight, gradient)
    with only("lamb"):
        assert_close(trained(weight, gradient), expected)
