"""Strided depthwise convolutions equal Keras, with an input gradient computed in float32.

bfloat16 has eight significant bits: outputs and gradients are within 2^-7 of the largest number.
"""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow

SHAPE = (4, 9, 8, 16)


def _layer(kind="DepthwiseConv2D", dtype="mixed_bfloat16", **options):
    import keras

    sizes = (24, 3) if kind == "SeparableConv2D" else (3,)
    return getattr(keras.layers, kind)(*sizes, strides=2, dtype=dtype, **options)


@pytest.mark.parametrize("kind", ["DepthwiseConv2D", "SeparableConv2D"])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_same_outputs_and_gradients(only, one_call, assert_close, kind, padding):
    expected = one_call(lambda: _layer(kind, padding=padding), SHAPE)
    with only("depthwise"):
        assert_close(one_call(lambda: _layer(kind, padding=padding), SHAPE), expected, 2**-7)


@pytest.mark.parametrize("way", ["eager", "unknown batch", "compiled", "replica", "threads"])
def test_same_numbers_in_every_way_of_running(only, one_call, assert_close, way):
    expected = one_call(_layer, SHAPE, way=way)
    with only("depthwise"):
        assert_close(one_call(_layer, SHAPE, way=way), expected, 2**-6)


def test_the_input_gradient_is_at_least_as_close_to_float32_as_in_keras(only, one_call):
    wide = one_call(lambda: _layer(dtype="float32"), SHAPE)
    bare = one_call(_layer, SHAPE)
    with only("depthwise"):
        mine = one_call(_layer, SHAPE)
    error = [np.abs(found[1] - wide[1]).mean() for found in (mine, bare)]
    assert error[0] <= error[1] * 1.01


def test_a_batch_of_one(only, one_call, assert_close):
    """An empty batch is not tested: it fails in TensorFlow's bfloat16 kernel."""
    shape = (1, *SHAPE[1:])
    expected = one_call(_layer, shape, training=False)
    with only("depthwise"):
        assert_close(one_call(_layer, shape, training=False), expected, 2**-7)


def _gradient_dtypes(layer, inputs):
    import tensorflow as tf

    def call(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            output = layer(inputs)
        return tape.gradient(output, inputs)

    graph = tf.function(call).get_concrete_function(inputs).graph
    kind = "DepthwiseConv2dNativeBackpropInput"
    return [op.outputs[0].dtype.name for op in graph.get_operations() if op.type == kind]


@pytest.mark.parametrize(
    ("options", "dtype", "expected"),
    [
        ({}, "mixed_bfloat16", "float32"),
        ({"strides": 1}, "mixed_bfloat16", "bfloat16"),
        ({}, "float32", "float32"),
    ],
    ids=str,
)
def test_only_strided_bfloat16_is_widened(only, options, dtype, expected):
    import keras
    import tensorflow as tf

    with only("depthwise"):
        layer = keras.layers.DepthwiseConv2D(3, **{"strides": 2, **options}, dtype=dtype)
        layer.build(SHAPE)
        assert _gradient_dtypes(layer, tf.ones(SHAPE, layer.compute_dtype)) == [expected]


@pytest.mark.parametrize(
    "options", [{"data_format": "channels_first"}, {"strides": 1, "dilation_rate": 2}], ids=str
)
def test_steps_aside(only, assert_close, options):
    import keras
    import tensorflow as tf

    def output():
        keras.utils.set_random_seed(1)
        options_ = {"strides": 2, **options}
        layer = keras.layers.DepthwiseConv2D(3, **options_, dtype="mixed_bfloat16")
        return tf.cast(layer(tf.ones((2, 16, 16, 16))), tf.float32).numpy()

    expected = output()
    with only("depthwise"):
        assert_close([output()], [expected], 0.0)


def test_ten_steps(only, ten_steps, assert_close):
    """Weights are within 2e-2: bfloat16 rounding over ten steps."""
    import keras

    def build():
        layers = [_layer(), keras.layers.Flatten(), keras.layers.Dense(3, dtype="float32")]
        return keras.Sequential([keras.Input(SHAPE[1:]), *layers])

    rng = np.random.default_rng(3)
    inputs = rng.standard_normal((40, *SHAPE[1:]), "float32")
    targets = rng.standard_normal((40, 3))
    _, expected = ten_steps(build, inputs, targets)
    with only("depthwise"):
        _, weights = ten_steps(build, inputs, targets)
    assert_close(weights, expected, 2e-2)
