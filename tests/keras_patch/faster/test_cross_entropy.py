"""The cross-entropy of integer labels by islands or ops gives the numbers of TensorFlow's kernel.

float32 is within 1e-5 of the largest number: the same formulas, sums in another order.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from nano_init.keras_patch import patch_tensorflow
from nano_init.keras_patch.faster import cross_entropy, cross_entropy_ops

pytestmark = pytest.mark.tensorflow

CLASSES = 520


@pytest.fixture(params=["islands", "ops"])
def form(request, monkeypatch):
    """Take all float32 logits for small enough to be kept, or for too large ones in `fit`."""
    if request.param == "ops":
        monkeypatch.setattr(cross_entropy, "_MOST_KEPT", 0)
        for module in (cross_entropy, cross_entropy_ops):
            monkeypatch.setattr(module, "is_in_fit", lambda: True)
    return request.param


def _loss_and_gradient(logits, labels, *, way="graph", by_softmax=False, **options):
    import keras
    import tensorflow as tf

    loss_of = keras.losses.SparseCategoricalCrossentropy(
        from_logits=not by_softmax, reduction="none", **options
    )

    def call(logits, labels):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            outputs = keras.ops.softmax(logits) if by_softmax else logits
            losses = loss_of(labels, outputs)
            score = tf.reduce_sum(tf.sin(losses))
        return losses, tape.gradient(score, logits)

    if way == "unknown batch":
        specs = [tf.TensorSpec((None, *t.shape[1:]), t.dtype) for t in (logits, labels)]
        call = tf.function(call, input_signature=specs)
    elif way != "eager":
        call = tf.function(call, jit_compile=way == "compiled")
    return [tf.cast(part, tf.float32).numpy() for part in call(logits, labels)]


def _batch(*rows, dtype="float32", scale=3.0):
    import tensorflow as tf

    rng = np.random.default_rng(1)
    logits = tf.constant(scale * rng.standard_normal((*rows, CLASSES)), dtype)
    return logits, tf.constant(rng.integers(0, CLASSES, rows))


@pytest.mark.parametrize("by_softmax", [False, True])
@pytest.mark.parametrize("rows", [(32,), (4, 9)])
@pytest.mark.usefixtures("form")
def test_same_losses_and_gradients(only, assert_close, rows, by_softmax):
    expected = _loss_and_gradient(*_batch(*rows), by_softmax=by_softmax)
    with only("cross_entropy"):
        assert_close(_loss_and_gradient(*_batch(*rows), by_softmax=by_softmax), expected, 1e-5)


@pytest.mark.parametrize("way", ["eager", "unknown batch", "compiled"])
@pytest.mark.usefixtures("form")
def test_same_numbers_in_every_way_of_running(only, assert_close, way):
    expected = _loss_and_gradient(*_batch(32))
    with only("cross_entropy"):
        assert_close(_loss_and_gradient(*_batch(32), way=way), expected, 1e-5)


@pytest.mark.parametrize("labels_dtype", ["int32", "int64", "uint8", "float32"])
@pytest.mark.usefixtures("form")
def test_labels_of_every_dtype_and_with_a_last_axis(only, assert_close, labels_dtype):
    import tensorflow as tf

    logits, labels = _batch(32)
    labels = tf.cast(labels % 250, labels_dtype)[:, None]
    expected = _loss_and_gradient(logits, labels)
    with only("cross_entropy"):
        assert_close(_loss_and_gradient(logits, labels), expected, 1e-5)


@pytest.mark.usefixtures("form")
def test_an_ignored_class(only, assert_close):
    expected = _loss_and_gradient(*_batch(32), ignore_class=7)
    with only("cross_entropy"):
        assert_close(_loss_and_gradient(*_batch(32), ignore_class=7), expected, 1e-5)


@pytest.mark.usefixtures("form")
def test_large_logits_do_not_overflow(only, assert_close):
    expected = _loss_and_gradient(*_batch(32, scale=1e4))
    with only("cross_entropy"):
        found = _loss_and_gradient(*_batch(32, scale=1e4))
    assert np.isfinite(found[0]).all()
    assert_close(found, expected, 1e-5)


@pytest.mark.parametrize("label", [-1, CLASSES])
@pytest.mark.usefixtures("form")
def test_a_label_out_of_range_raises_invalid_argument_as_in_keras(only, label):
    import tensorflow as tf

    logits, labels = _batch(32)
    labels = tf.concat([labels[1:], [label]], 0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="label value"):
        _loss_and_gradient(logits, labels)
    with (
        only("cross_entropy"),
        pytest.raises(tf.errors.InvalidArgumentError, match="outside the valid range"),
    ):
        _loss_and_gradient(logits, labels)


def test_there_is_one_island_per_direction(only, count_islands):
    logits, labels = _batch(32)
    assert count_islands(lambda *a: _graph_part(*a), logits, labels) == 0
    with only("cross_entropy"):
        assert count_islands(lambda *a: _graph_part(*a), logits, labels) == 2
        assert count_islands(lambda *a: _graph_part(*a), logits[:4], labels[:4]) == 0


def _graph_part(logits, labels):
    import keras
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    return tape.gradient(loss, logits)


@pytest.mark.parametrize(
    ("dtype", "rows", "islands"),
    [("float32", 2048, 2), ("float32", 2**15, 0), ("bfloat16", 2**15, 2)],
)
def test_large_float32_logits_use_no_island(only, count_islands, dtype, rows, islands):
    import keras
    import tensorflow as tf

    def call(logits, labels):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            wide = tf.cast(logits, tf.float32)
            losses = keras.ops.sparse_categorical_crossentropy(labels, wide, from_logits=True)
        return tape.gradient(losses, logits)

    specs = tf.TensorSpec((rows, CLASSES), dtype), tf.TensorSpec((rows,), tf.int64)
    with only("cross_entropy"):
        assert count_islands(call, *specs) == islands


_PEAK = """
import resource, sys
import numpy as np
from nano_init import patch_tensorflow
if sys.argv[1] == "patched":
    patch_tensorflow("float32")
import keras
model = keras.Sequential([keras.Input((128, 2)), keras.layers.Dense(8192)])
model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model.fit(np.ones((32, 128, 2)), np.zeros((32, 128), int), verbose=0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("rows", [32, 2**15])
def test_a_function_that_was_traced_may_be_compiled_by_xla_later(only, assert_close, rows):
    import tensorflow as tf

    logits, labels = _batch(rows)
    expected = _graph_part(logits, labels)
    with only("cross_entropy"):
        traced = tf.function(_graph_part)
        traced(logits, labels)
        compiled = tf.function(lambda *tensors: traced(*tensors), jit_compile=True)
        assert_close([compiled(logits, labels).numpy()], [expected.numpy()], 1e-5)


def test_large_float32_logits_become_their_gradient_without_a_copy():
    """A step of 128 MB of logits needs no more memory than in Keras, to within half a copy."""
    plain, patched = (
        int(subprocess.check_output([sys.executable, "-c", _PEAK, way])) for way in ("", "patched")
    )
    assert patched < plain + 64 * 1024


@pytest.mark.usefixtures("form")
def test_gradients_of_gradients(only, assert_close):
    import tensorflow as tf

    logits, labels = _batch(32)

    def penalty():
        @tf.function
        def call(logits):
            with tf.GradientTape() as tape:
                tape.watch(logits)
                slope = _graph_part(logits, labels)
                score = tf.reduce_sum(slope**2)
            return tape.gradient(score, logits)

        return call(logits).numpy()

    expected = penalty()
    with only("cross_entropy"):
        assert_close([penalty()], [expected], 1e-5)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 2e-2)])
@pytest.mark.usefixtures("form")
def test_ten_steps(only, ten_steps, assert_close, precision, tolerance):
    import keras

    def build():
        head = keras.layers.Dense(CLASSES, "softmax")
        return keras.Sequential([keras.Input((16,)), head])

    rng = np.random.default_rng(3)
    inputs, labels = rng.standard_normal((320, 16), "float32"), rng.integers(0, CLASSES, 320)
    patch_tensorflow(precision, disable="all")
    loss = "sparse_categorical_crossentropy"
    _, expected = ten_steps(build, inputs, labels, loss)
    with only("cross_entropy"):
        _, weights = ten_steps(build, inputs, labels, loss)
    assert_close(weights, expected, tolerance)
