"""A sparse gradient with repeated ids trains like the equivalent dense gradient."""

from __future__ import annotations

import numpy as np
import pytest

from nano_init import patch_tensorflow

pytestmark = [pytest.mark.tensorflow, pytest.mark.needs_part("repeated_ids")]

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

ROWS, IDS = 7, [2, 5, 2, 2, 0]


def optimizers():
    o = keras.optimizers
    return {
        "adam": lambda: o.Adam(0.1),
        "amsgrad": lambda: o.Adam(0.1, amsgrad=True),
        "adamw": lambda: o.AdamW(0.1, weight_decay=0.1),
        "nadam": lambda: o.Nadam(0.1),
        "adamax": lambda: o.Adamax(0.1),
        "rmsprop": lambda: o.RMSprop(0.1),
        "rmsprop_momentum": lambda: o.RMSprop(0.1, momentum=0.9, centered=True),
        "adagrad": lambda: o.Adagrad(0.1),
        "adadelta": lambda: o.Adadelta(0.1),
        "adafactor": lambda: o.Adafactor(0.1),
        "ftrl": lambda: o.Ftrl(0.1),
        "lion": lambda: o.Lion(0.1),
        "sgd": lambda: o.SGD(0.1),
        "sgd_clipnorm": lambda: o.SGD(0.1, clipnorm=0.5),
        "sgd_global_clipnorm": lambda: o.SGD(0.1, global_clipnorm=0.5),
        "sgd_momentum": lambda: o.SGD(0.1, momentum=0.9, nesterov=True),
        "adam_clipvalue": lambda: o.Adam(0.1, clipvalue=0.3),
        "adam_accumulating": lambda: o.Adam(0.1, gradient_accumulation_steps=2),
        "adam_ema": lambda: o.Adam(0.1, use_ema=True),
        "loss_scaled": lambda: o.LossScaleOptimizer(o.Adam(0.1), initial_scale=1.0),
    }


def trained(make, sparse, run):
    variable = tf.Variable(np.linspace(-1, 1, ROWS * 2, dtype="float32").reshape(ROWS, 2))
    optimizer = make()
    optimizer.build([variable])

    def step(values):
        gradient = tf.IndexedSlices(values, tf.constant(IDS), tf.constant([ROWS, 2]))
        gradient = gradient if sparse else tf.convert_to_tensor(gradient)
        optimizer.apply_gradients([(gradient, variable)])

    step = run(step)
    for scale in (0.3, -0.2, 0.5):
        step(tf.constant(scale * (1 + np.arange(10).reshape(5, 2) / 7), tf.float32))
    return variable.numpy()


@pytest.mark.parametrize("name", sorted(optimizers()))
@pytest.mark.parametrize("precision", ["float32"])
def test_training_equals_the_dense_gradient(name, precision):
    patch_tensorflow(precision)
    make = optimizers()[name]
    sparse, dense = (trained(make, kind, tf.function) for kind in (True, False))
    np.testing.assert_allclose(sparse, dense, rtol=1e-5, atol=1e-6)


def test_training_equals_the_dense_gradient_eagerly_and_under_xla():
    patch_tensorflow("mixed_bfloat16")
    make = optimizers()["adam"]
    dense = trained(make, False, tf.function)
    for run in (lambda f: f, lambda f: tf.function(f, jit_compile=True)):
        np.testing.assert_allclose(trained(make, True, run), dense, rtol=1e-5, atol=1e-6)


def test_three_equal_gradients_on_one_row_count_as_their_sum():
    """Unpatched Keras 3 gives a second moment of 0.003 here."""
    patch_tensorflow()
    variable = tf.Variable(tf.zeros((3, 1)))
    adam = keras.optimizers.Adam()
    adam.build([variable])
    adam.apply_gradients([(tf.IndexedSlices(tf.ones((3, 1)), [1, 1, 1], [3, 1]), variable)])
    assert float(adam._velocities[0].numpy()[1, 0]) == pytest.approx(0.009, rel=1e-4)


@pytest.mark.parametrize("options", [{}, {"clipnorm": 1.0}])
def test_ids_are_summed_once(options, count_ops):
    """They become a dense gradient if Adam updates every row, otherwise distinct rows."""
    patch_tensorflow()
    table = keras.Variable(tf.ones((ROWS, 2)))
    adam = keras.optimizers.Adam(**options)
    adam.build([table])

    def step():
        adam.apply([tf.IndexedSlices(tf.ones((5, 2)), tf.constant(IDS), [ROWS, 2])], [table])

    assert count_ops("Unique", step) == len(options)
    assert count_ops("ResourceApplyAdam", step) == 1


def test_fewer_gradients_than_variables_update_only_the_first_ones():
    patch_tensorflow()
    variables = [keras.Variable(np.ones(2, "float32")) for _ in range(2)]
    adam = keras.optimizers.Adam(0.1)
    adam.build(variables)
    adam.apply([tf.ones(2)], variables)
    assert float(variables[0][0]) == pytest.approx(0.9, rel=1e-4)
    assert float(variables[1][0]) == 1
