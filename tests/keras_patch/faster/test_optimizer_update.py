"""An optimizer's file has formulas only; which one runs follows from the optimizer's options."""

from __future__ import annotations

import numpy as np
import pytest

from nano_init.keras_patch.faster.optimizer_update import Update, update_replacements

pytestmark = pytest.mark.tensorflow

keras = pytest.importorskip("keras")


def update_step(*updates):
    (replacement,) = update_replacements("sgd", "SGD", *updates)()
    assert (replacement.target, replacement.attribute) == (keras.optimizers.SGD, "update_step")
    return replacement.value


def update(done, name, *, when=True, takes=True):
    return Update(lambda _: when, lambda *_: takes, lambda *_: done.append(name))


def sgd_and_variable(value=1.0):
    optimizer, variable = keras.optimizers.SGD(0.5), keras.Variable([value])
    optimizer.build([variable])
    return optimizer, variable


def test_the_first_update_for_the_options_of_the_optimizer_runs():
    done = []
    step = update_step(update(done, "no", when=False), update(done, "yes"), update(done, "later"))
    step(None, "gradient", "variable", learning_rate=0.1)
    assert done == ["yes"]


@pytest.mark.parametrize("variant", [{"when": False}, {"takes": False}])
def test_keras_updates_what_no_update_is_for(variant):
    done = []
    optimizer, variable = sgd_and_variable()
    update_step(update(done, "no", **variant))(optimizer, np.float32([1]), variable, 0.5)
    assert not done
    assert np.array(variable.value).tolist() == [0.5]


def test_a_gradient_that_the_update_does_not_take_gets_no_other_update():
    """A later formula is for other options."""
    done = []
    optimizer, variable = sgd_and_variable()
    step = update_step(update(done, "first", takes=False), update(done, "later"))
    step(optimizer, np.float32([1]), variable, 0.5)
    assert not done


def test_sgd_without_momentum_updates_a_variable_that_it_was_not_built_for(only):
    import tensorflow as tf

    with only("sgd"):
        optimizer, _ = sgd_and_variable()
        other = keras.Variable([2.0])
        optimizer.update_step(tf.ones((1,)), other, 0.5)
    assert np.array(other.value).tolist() == [1.5]
