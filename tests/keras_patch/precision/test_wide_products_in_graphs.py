"""Graphs with products in float32 behave as if these were of bfloat16, also without a tape."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

pytestmark = [pytest.mark.tensorflow, pytest.mark.usefixtures("slow")]

NARROW = tf.bfloat16


@pytest.fixture
def weights():
    return tf.Variable(tf.ones([4, 3])), tf.Variable(tf.ones([3]))


def test_symbolic_gradients_find_a_product_before_its_bias_and_activation(weights):
    @tf.function
    def run(x):
        hidden = tf.matmul(x, tf.cast(weights[0], NARROW))
        biased = tf.nn.bias_add(hidden, tf.cast(weights[1], NARROW))
        return tf.gradients(biased * biased, hidden) + tf.gradients(tf.nn.relu(hidden), hidden)

    by_bias, by_relu = run(tf.ones([5, 4], NARROW))
    assert by_bias[0, 0] == 10
    assert by_relu[0, 0] == 1


@pytest.mark.parametrize("is_turned", [False, True])
def test_symbolic_gradients_find_the_weights_that_were_cast(weights, is_turned):
    @tf.function
    def run(x):
        cast = tf.cast(weights[0], NARROW)
        cast = tf.transpose(cast) if is_turned else cast
        (gradient,) = tf.gradients(tf.matmul(x, cast, transpose_b=is_turned), cast)
        return gradient

    assert run(tf.ones([5, 4], NARROW)).numpy().astype("float32").tolist()[0][0] == 5


def test_symbolic_gradients_stop_at_a_product(weights):
    @tf.function
    def run(x):
        hidden = tf.matmul(x, tf.cast(weights[0], NARROW))
        summed = tf.nn.bias_add(hidden, tf.cast(weights[1], NARROW)) + hidden
        found = tf.gradients(summed, list(weights), stop_gradients=[hidden])
        assert found[0] is None
        return found[1]

    assert run(tf.ones([5, 4], NARROW)).numpy().tolist() == [5, 5, 5]


def test_a_model_can_differentiate_by_its_inner_output():
    class Explained(keras.Model):
        def __init__(self):
            super().__init__()
            self.convolution = keras.layers.Conv2D(4, 3)
            self.head = keras.layers.Dense(2)

        def call(self, images):
            maps = self.convolution(images)
            score = self.head(keras.ops.mean(tf.nn.relu(maps), (1, 2)))
            return tf.gradients(score, [maps])[0]

    model = Explained()
    assert tf.function(model)(tf.ones([2, 6, 6, 3])).shape == (2, 4, 4, 4)


@pytest.mark.parametrize("has_tape", [False, True])
def test_a_shape_that_a_script_sets_is_known_to_the_next_op(has_tape):
    dense = keras.layers.Dense(2)

    @tf.function(input_signature=[tf.TensorSpec([None, None], NARROW)] * 2)
    def run(x, matrix):
        with tf.GradientTape() as tape:
            tape.watch(x)
            hidden = tf.matmul(x, matrix)
            hidden.set_shape([None, 3])
            if has_tape:
                result = dense(tf.nn.relu(hidden))
        if not has_tape:
            result = dense(tf.nn.relu(hidden))
        x.set_shape([5, 4])
        assert tf.matmul(x, matrix).shape.as_list() == [5, None]
        return result

    assert run(tf.ones([5, 4], NARROW), tf.ones([4, 3], NARROW)).shape == (5, 2)


def test_a_fetched_product_runs_no_op_that_another_one_waits_for():
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(NARROW, [None, 4])
        count = tf.Variable(0.0)
        with tf.control_dependencies([count.assign_add(1.0)]):
            tf.matmul(x, tf.ones([4, 3], NARROW))
        product = tf.matmul(x, tf.ones([4, 2], NARROW))
        session.run(count.initializer)
        session.run(product, {x: np.ones((5, 4))})
        assert session.run(count) == 0


def test_a_product_is_fed_and_fetched_by_its_name():
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(NARROW, [None, 4])
        logits = tf.matmul(x, tf.ones([4, 3], NARROW), name="logits")
        active = tf.nn.relu(logits, name="active")
        assert (logits.name, active.name) == ("logits:0", "active:0")
        fed = session.run("active:0", {"logits:0": -np.ones((2, 3))})
        assert fed.dtype == NARROW.as_numpy_dtype
        assert fed.max() == 0


@pytest.mark.parametrize("operand", [None, object()], ids=["none", "object"])
def test_an_operand_that_is_no_tensor_gives_tensorflows_error(operand):
    def multiply():
        return tf.raw_ops.MatMul(a=tf.ones([2, 2], NARROW), b=operand)

    with pytest.raises((TypeError, ValueError), match=r"'b'|MatMul"):
        tf.function(multiply)()
