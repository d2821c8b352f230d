"""Ops that TensorFlow rejects because of their dtypes run; ops that it accepts do not change."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from nano_init import unpatch_tensorflow
from nano_init.keras_patch.precision.operands import agree, is_capable

pytestmark = pytest.mark.tensorflow

WIDE = np.linspace(-1.0, 1.0, 12).reshape(3, 4).astype("float32")


def narrow(value=WIDE):
    return tf.cast(tf.constant(value), tf.bfloat16)


def eagerly(function):
    return function()


def in_a_graph(function):
    return tf.function(function)()


@pytest.fixture(params=[eagerly, in_a_graph], ids=["eager", "graph"])
def run(request, mixed):
    return request.param


MIXED = {
    "minus": lambda: narrow() - tf.constant(WIDE),
    "divided": lambda: narrow() / tf.constant(WIDE + 2),
    "divided by": lambda: tf.constant(WIDE) / narrow(WIDE + 2),
    "without nan": lambda: tf.math.divide_no_nan(tf.constant(WIDE), narrow()),
    "concat": lambda: tf.concat([narrow(), tf.constant(WIDE)], 0),
    "stack": lambda: tf.stack([tf.constant(WIDE), narrow()]),
    "where": lambda: tf.where(narrow() > 0, narrow(), tf.constant(WIDE)),
    "sum of many": lambda: tf.add_n([narrow(), tf.constant(WIDE), narrow()]),
    "variable": lambda: narrow() + tf.reduce_sum(tf.constant(WIDE)),
    "scattered": lambda: tf.tensor_scatter_nd_update(narrow(), [[0]], tf.ones((1, 4))),
    "clipped": lambda: tf.clip_by_value(narrow(), tf.constant(-0.5), tf.constant(0.5)),
    "array first": lambda: tf.add(WIDE, narrow()),
}


@pytest.mark.parametrize("function", MIXED.values(), ids=MIXED)
def test_ops_with_different_dtypes_run_in_float32(run, function):
    assert run(function).dtype == tf.float32


CONTRACTIONS = {
    "matmul": lambda: narrow() @ tf.constant(WIDE.T),
    "matmul of a constant": lambda: tf.matmul(tf.constant(WIDE), narrow(WIDE.T)),
    "batches": lambda: tf.matmul(tf.constant(WIDE[None]), narrow(WIDE.T[None])),
    "einsum": lambda: tf.einsum("ij,kj->ik", narrow(), tf.constant(WIDE)),
    "convolution": lambda: tf.nn.conv2d(
        narrow(WIDE.reshape(1, 3, 4, 1)), tf.ones((2, 2, 1, 1)), 1, "SAME"
    ),
}


@pytest.mark.parametrize("function", CONTRACTIONS.values(), ids=CONTRACTIONS)
def test_contractions_run_in_bfloat16(run, function):
    assert run(function).dtype == tf.bfloat16


def positive(size=4):
    return narrow(np.eye(size, dtype="float32") * 3 + 0.5)


WITHOUT_KERNEL = {
    "inverse": lambda: tf.linalg.inv(positive()),
    "cholesky": lambda: tf.linalg.cholesky(positive()),
    "eigenvalues": lambda: tf.linalg.eigvalsh(positive()),
    "solved": lambda: tf.linalg.solve(positive(), tf.ones((4, 1))),
    "gamma": lambda: tf.math.lgamma(narrow(WIDE + 3)),
    "digamma": lambda: tf.math.digamma(narrow(WIDE + 3)),
    "spectrum": lambda: tf.abs(tf.signal.rfft(narrow())),
    "short spectra": lambda: tf.abs(tf.signal.stft(narrow(), 4, 2)),
    "complex": lambda: tf.math.real(tf.complex(narrow(), narrow())),
}


@pytest.mark.parametrize("function", WITHOUT_KERNEL.values(), ids=WITHOUT_KERNEL)
def test_ops_without_a_bfloat16_kernel_run_in_float32(run, function):
    result = run(function)
    assert result.dtype == tf.float32
    assert np.isfinite(result.numpy()).all()


MANY = 3000

SUMS = {
    "bias": lambda: tf.raw_ops.BiasAddGrad(out_backprop=narrow(np.ones((MANY, 1)))),
    "cumulative": lambda: tf.cumsum(narrow(np.ones(MANY)))[-1:],
    "segments": lambda: tf.math.segment_sum(narrow(np.ones(MANY)), np.zeros(MANY, "int32")),
    "unsorted": lambda: tf.math.unsorted_segment_sum(
        narrow(np.ones(MANY)), np.zeros(MANY, "int32"), 1
    ),
    "scattered": lambda: tf.scatter_nd(np.zeros((MANY, 1), "int32"), narrow(np.ones(MANY)), [1]),
    "added by index": lambda: tf.tensor_scatter_nd_add(
        narrow([0.0]), np.zeros((MANY, 1), "int32"), narrow(np.ones(MANY))
    ),
    "reduced": lambda: tf.reduce_sum(narrow(np.ones(MANY)))[None],
}


@pytest.mark.parametrize("function", SUMS.values(), ids=SUMS)
def test_sums_do_not_stop_at_256(run, function):
    assert run(function).numpy().astype("float32") == pytest.approx([MANY], rel=0.004)


ACCEPTED = {
    "bfloat16 alone": (lambda: narrow() + narrow(), tf.bfloat16),
    "a number": (lambda: narrow() * 2.0, tf.bfloat16),
    "an array": (lambda: narrow() - WIDE, tf.bfloat16),
    "a cast": (lambda: tf.cast(narrow(), tf.float64), tf.float64),
    "float32 alone": (lambda: tf.constant(WIDE) + 1.0, tf.float32),
    "integers": (lambda: tf.constant([1]) + 1, tf.int32),
}


@pytest.mark.parametrize(("function", "dtype"), ACCEPTED.values(), ids=ACCEPTED)
def test_an_op_that_tensorflow_accepts_keeps_its_dtype(run, function, dtype):
    assert run(function).dtype == dtype


REFUSED = {
    "integers and floats": lambda: tf.constant([1]) * tf.constant([1.0]),
    "float32 and float64": lambda: tf.constant(WIDE) + tf.constant(WIDE, tf.float64),
    "bfloat16 and float16": lambda: narrow() + tf.constant(WIDE, tf.float16),
    "shapes": lambda: narrow() @ tf.ones((3, 2)),
}


@pytest.mark.parametrize("function", REFUSED.values(), ids=REFUSED)
def test_an_op_that_fails_without_bfloat16_still_fails(run, function):
    with pytest.raises((tf.errors.InvalidArgumentError, TypeError, ValueError)):
        run(function)


def test_a_widened_operand_gets_back_its_unrounded_digits(mixed):
    seen = []

    class Layer(keras.layers.Layer):
        def call(self, x):
            seen.append(x - tf.constant([1013.25]))
            return x

    Layer()(np.array([[1013.5]], "float32"))
    assert seen[0].numpy().tolist() == [[0.25]]


def test_a_graph_without_mixed_operands_has_no_casts(mixed):
    traced = tf.function(lambda x: tf.nn.relu(x * x) + x).get_concrete_function(narrow(WIDE[:, :3]))
    assert "Cast" not in {op.type for op in traced.graph.get_operations()}


def test_gradients_flow_through_both_dtypes(mixed):
    weight, table = tf.Variable(np.eye(4, dtype="float32")), tf.constant(WIDE)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum((narrow() @ weight - table) ** 2)
    gradient = tape.gradient(loss, weight)
    assert gradient.dtype == tf.float32
    np.testing.assert_allclose(gradient, 0 * gradient, atol=0.05)


@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "graph"])
def test_gradients_of_gathered_rows_are_summed(mixed, wrap):
    weight = tf.Variable(np.eye(4, dtype="float32"))

    def slope():
        with tf.GradientTape() as tape:
            rows = tf.gather(narrow() @ weight, [0, 0, 2])
            loss = tf.reduce_sum(rows * rows)
        return tape.gradient(loss, weight)

    gradient = wrap(slope)()
    assert gradient.dtype == tf.float32
    rows = narrow().numpy().astype("float32")[[0, 0, 2]]
    np.testing.assert_allclose(gradient, 2 * rows.T @ rows, rtol=0.02, atol=0.02)


def test_mixed_operands_fail_again_after_unpatching(mixed):
    unpatch_tensorflow()
    with pytest.raises(tf.errors.InvalidArgumentError):
        narrow() - tf.constant(WIDE)


def test_agree_returns_the_operands_to_change():
    wide, small = tf.constant(WIDE), narrow()
    assert agree("Sub", (small, small)) == {}
    assert agree("Cast", (small,)) == {}
    assert agree("Sub", (small, wide))[0].dtype == tf.float32
    assert agree("MatMul", (small, wide))[1].dtype == tf.bfloat16
    assert agree("PyFunc", ([small],))[0][0].dtype == tf.float32
    assert is_capable("MatMul")
    assert not is_capable("MatrixInverse")
