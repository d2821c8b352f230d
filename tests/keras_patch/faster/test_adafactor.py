"""Adafactor's factored second moment is Keras's for any number of axes."""

from __future__ import annotations

import numpy as np
import pytest

from nano_init.keras_patch.faster import xla_fusion

pytestmark = pytest.mark.tensorflow

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")


@pytest.fixture(autouse=True)
def _any_size(monkeypatch):
    """Let islands update weights of any size."""
    monkeypatch.setattr(xla_fusion, "_FEWEST_ELEMENTS", 1)


def trained(weight, gradient, **options):
    """Return a weight and the optimizer's variables after three steps with the same gradient."""
    optimizer, variable = keras.optimizers.Adafactor(0.1, **options), keras.Variable(weight)
    optimizer.build([variable])
    step = tf.function(lambda: optimizer.apply([tf.constant(gradient)], [variable]))
    for _ in range(3):
        step()
    return [np.array(each) for each in (variable, *optimizer.variables)]


def numbers(*shape):
    return np.random.default_rng(1).standard_normal(shape).astype("float32")


@pytest.mark.parametrize("shape", [(4, 3), (3, 3, 4, 5), (2, 1, 6)])
@pytest.mark.parametrize("options", [{}, {"clip_threshold": 0.1}, {"epsilon_2": 10.0}])
def test_adafactor_factors_the_last_two_axes(only, shape, options, assert_close):
    arrays = numbers(*shape), numbers(*shape)
    expected = trained(*arrays, **options)
    with only("adafactor"):
        assert_close(trained(*arrays, **options), expected)


def test_adafactor_with_a_row_without_a_gradient(only, assert_close):
    gradient = numbers(4, 3)
    gradient[1] = 0.0
    expected = trained(numbers(4, 3), gradient)
    with only("adafactor"):
        assert_close(trained(numbers(4, 3), gradient), expected)


def test_adafactor_leaves_weights_with_one_axis_to_keras(only, count_islands):
    with only("adafactor"):
        optimizer, variable = keras.optimizers.Adafactor(), keras.Variable(numbers(8))
        optimizer.build([variable])
        assert count_islands(lambda: optimizer.apply([tf.ones(8)], [variable])) == 0
