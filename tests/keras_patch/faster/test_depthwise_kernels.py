"""Gradients by large depthwise kernels equal Keras, in whichever way they are computed.

float32 is within 1e-5 of the largest number. bfloat16 has eight significant bits: gradients are
within 2^-7 of Keras's, and no farther from float32's than those.
"""

from __future__ import annotations

import numpy as np
import pytest

from nano_init.keras_patch.faster.depthwise import _overlap

pytestmark = pytest.mark.tensorflow

FILTER = "DepthwiseConv2dNativeBackpropFilter"


def _layer(size, *, dtype="float32", **options):
    import keras

    options = {"padding": "same", "depth_multiplier": 1, **options}
    return keras.layers.DepthwiseConv2D(size, dtype=dtype, **options)


SMALL = [
    (5, (2, 3, 3, 16), {}),
    (7, (2, 3, 3, 16), {}),
    (5, (2, 1, 4, 8), {}),
    (4, (2, 3, 4, 8), {}),  # an even kernel is padded more at the end
    ((5, 4), (2, 4, 2, 8), {}),
    (9, (1, 2, 2, 8), {}),
    (5, (2, 3, 3, 4), {"depth_multiplier": 3}),
]
OTHERS = [
    (5, (2, 8, 9, 16), {}),
    (5, (2, 8, 8, 16), {"strides": 2}),
    (5, (2, 4, 4, 16), {"strides": 2}),
    (7, (2, 9, 9, 16), {"padding": "valid"}),
    (4, (2, 4, 4, 16), {"padding": "valid"}),
]


@pytest.mark.parametrize(("size", "shape", "options"), [*SMALL, *OTHERS], ids=str)
def test_float32_equals_keras(only, one_call, assert_close, size, shape, options):
    expected = one_call(lambda: _layer(size, **options), shape)
    with only("depthwise"):
        assert_close(one_call(lambda: _layer(size, **options), shape), expected, 1e-5)


@pytest.mark.parametrize(("size", "shape", "options"), [*SMALL[:2], *OTHERS], ids=str)
def test_bfloat16_is_as_close_to_float32_as_keras_is(only, one_call, size, shape, options):
    wide = one_call(lambda: _layer(size, **options), shape)
    bare = one_call(lambda: _layer(size, dtype="mixed_bfloat16", **options), shape)
    with only("depthwise"):
        mine = one_call(lambda: _layer(size, dtype="mixed_bfloat16", **options), shape)
    for own, kerass, exact in zip(mine, bare, wide, strict=True):
        error = np.abs(own - exact).mean()
        assert error <= np.abs(kerass - exact).mean() * 1.05 + 1e-6


@pytest.mark.parametrize("way", ["eager", "unknown batch", "compiled"])
def test_products_by_position_in_every_way_of_running(only, one_call, assert_close, way):
    expected = one_call(lambda: _layer(5), (2, 3, 3, 16), way=way)
    with only("depthwise"):
        assert_close(one_call(lambda: _layer(5), (2, 3, 3, 16), way=way), expected, 1e-5)


def test_gradients_of_gradients(only, assert_close):
    import keras
    import tensorflow as tf

    def penalty():
        keras.utils.set_random_seed(4)
        layer = _layer(5)
        inputs = tf.constant(np.random.default_rng(3).standard_normal((2, 3, 3, 8), "float32"))
        layer.build(inputs.shape)
        with tf.GradientTape() as outer:
            outer.watch(inputs)
            with tf.GradientTape() as inner:
                score = tf.reduce_sum(layer(inputs) ** 3)
            norm = tf.reduce_sum(inner.gradient(score, layer.kernel.value) ** 2)
        return outer.gradient(norm, inputs).numpy()

    expected = penalty()
    with only("depthwise"):
        assert_close([penalty()], [expected], 1e-4)


def _filter_gradients(layer, shape):
    """Return the dtypes of the kernel gradients by oneDNN in a graph."""
    import tensorflow as tf

    layer.build(shape)

    def call(inputs):
        with tf.GradientTape() as tape:
            output = layer(inputs)
        return tape.gradient(output, layer.kernel.value)

    graph = tf.function(call).get_concrete_function(tf.TensorSpec(shape)).graph
    return [op.outputs[0].dtype.name for op in graph.get_operations() if op.type == FILTER]


@pytest.mark.parametrize(
    ("size", "shape", "dtype", "expected"),
    [
        (5, (2, 8, 8, 16), "mixed_bfloat16", ["float32"]),
        (3, (2, 8, 8, 16), "mixed_bfloat16", ["bfloat16"]),
        (5, (2, 8, 8, 16), "float32", ["float32"]),
        (5, (2, 4, 4, 16), "float32", []),
        (5, (2, 4, 4, 16), "mixed_bfloat16", []),
        (5, (2, 4, 5, 16), "float32", ["float32"]),
        (3, (2, 4, 4, 16), "float32", ["float32"]),
        (5, (2, None, None, 16), "float32", ["float32"]),
    ],
    ids=str,
)
def test_which_kernel_gradient_is_chosen(only, size, shape, dtype, expected):
    with only("depthwise"):
        assert _filter_gradients(_layer(size, dtype=dtype), shape) == expected


@pytest.mark.parametrize("side", range(1, 6))
@pytest.mark.parametrize("offset", range(-7, 8))
def test_a_position_reads_the_pixels_under_it(side, offset):
    read, into = _overlap(side, offset)
    pairs = [(place + offset, place) for place in range(side) if 0 <= place + offset < side]
    assert list(zip(range(side)[read], range(side)[into], strict=True)) == pairs
