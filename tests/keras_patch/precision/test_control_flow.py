"""Loops, branches, arrays and signatures accept values of both dtypes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

pytestmark = [pytest.mark.tensorflow, pytest.mark.usefixtures("mixed")]


def narrow(*values):
    return tf.constant(values, tf.bfloat16)


def test_a_tensor_array_keeps_its_dtype():
    @tf.function
    def run():
        array = tf.TensorArray(tf.float32, 2, element_shape=(1,))
        array = array.write(0, narrow(0.5)).write(1, value=tf.constant([2.0]))
        return array.stack(), tf.TensorArray(tf.bfloat16, 1).unstack([[1.0]]).stack()

    stacked, small = run()
    assert (stacked.dtype, small.dtype) == (tf.float32, tf.bfloat16)
    assert stacked.numpy().tolist() == [[0.5], [2.0]]


def test_a_loop_variable_keeps_its_dtype_and_has_a_gradient():
    @tf.function
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            _, state = tf.while_loop(
                lambda i, s: i < 3,
                lambda i, s: (i + 1, s * tf.constant(0.5)),
                (0, tf.cast(x, tf.bfloat16)),
            )
        return state, tape.gradient(state, x)

    state, gradient = run(tf.constant([8.0]))
    assert (state.dtype, gradient.dtype) == (tf.bfloat16, tf.float32)
    assert (float(state[0]), float(gradient[0])) == (1.0, 0.125)


def test_branches_agree_on_float32():
    @tf.function
    def run(flag):
        return tf.cond(flag, lambda: narrow(1.0), lambda: tf.constant([0.25]))

    for flag, value in ((True, 1.0), (False, 0.25)):
        result = run(tf.constant(flag))
        assert (result.dtype, float(result[0])) == (tf.float32, value)


def test_a_signature_casts_its_arguments():
    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32)])
    def double(x):
        return x * 2.0

    assert double(narrow(1.5)).dtype == tf.float32
    with pytest.raises(TypeError):
        double(tf.constant(["a"]))


def test_python_functions_read_float32_arrays():
    seen = []

    def note(array):
        seen.append(array.dtype.name)
        return array

    class Noting(keras.layers.Layer):
        def call(self, x):
            return tf.numpy_function(note, [x], tf.float32)

    layer = Noting()
    assert layer(narrow(1.5)).numpy().tolist() == [1.5]
    assert tf.function(layer)(narrow(1.5)).numpy().tolist() == [1.5]
    assert seen == ["float32"] * 2


def test_arrays_of_tensors_are_float32_in_a_layer_and_unchanged_in_the_script():
    seen = []

    class Reading(keras.layers.Layer):
        def call(self, x):
            assert x.dtype == tf.bfloat16
            seen.extend((x.numpy().dtype.name, np.asarray(x).dtype.name))
            return x

    Reading()(np.ones(3, "float32"))
    assert seen == ["float32", "float32"]
    assert narrow(1.0).numpy().dtype.name == "bfloat16"


def test_scan_and_map_accept_a_float32_initial_value():
    rows = narrow(1.0, 2.0, 3.0)
    run = tf.function(lambda: tf.scan(lambda s, row: s + row, rows, initializer=tf.constant(0.0)))
    assert run().numpy().tolist() == [1.0, 3.0, 6.0]
    mapped = tf.function(lambda: tf.map_fn(lambda r: r * 2, rows, fn_output_signature=tf.float32))
    assert mapped().dtype == tf.float32
