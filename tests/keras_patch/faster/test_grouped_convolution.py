"""Convolutions with groups by oneDNN give the same numbers as Keras's, which XLA compiles.

float32 is within 1e-5 of the largest number. bfloat16 is compared with float32, and must be about
as close to it as XLA's is, which rounds in another order.
"""

from __future__ import annotations

import numpy as np
import pytest

from nano_init.keras_patch.faster import grouped_convolution
from nano_init.keras_patch.faster.processor import has_onednn_kernels

pytestmark = pytest.mark.tensorflow

IMAGE = (2, 7, 8, 8)
SEQUENCE = (2, 15, 8)

LAYERS = {
    "two groups": (IMAGE, "Conv2D", (6, 3), {"groups": 2}),
    "same": (IMAGE, "Conv2D", (8, 3), {"groups": 4, "padding": "same"}),
    "strides": (IMAGE, "Conv2D", (8, (3, 2)), {"groups": 4, "strides": 2, "padding": "same"}),
    "two strides": (IMAGE, "Conv2D", (8, 3), {"groups": 8, "strides": (1, 2)}),
    "dilation": (IMAGE, "Conv2D", (8, 3), {"groups": 4, "dilation_rate": 2}),
    "no bias": (IMAGE, "Conv2D", (4, 1), {"groups": 2, "use_bias": False}),
    "activation": (IMAGE, "Conv2D", (4, 3), {"groups": 2, "activation": "relu"}),
    "one channel each": (IMAGE, "Conv2D", (8, 3), {"groups": 8, "padding": "same"}),
    "several filters each": (IMAGE, "Conv2D", (24, 5), {"groups": 8, "padding": "same"}),
    "dilated, one channel each": (IMAGE, "Conv2D", (8, 3), {"groups": 8, "dilation_rate": 2}),
    "sequence": (SEQUENCE, "Conv1D", (4, 3), {"groups": 2}),
    "causal": (SEQUENCE, "Conv1D", (8, 3), {"groups": 8, "padding": "causal"}),
    "dilated sequence": (SEQUENCE, "Conv1D", (4, 3), {"groups": 2, "dilation_rate": 3}),
}


def _layer(name, dtype="float32", **options):
    import keras

    _, kind, arguments, own = LAYERS[name]
    return getattr(keras.layers, kind)(*arguments, **{**own, **options}, dtype=dtype)


@pytest.mark.parametrize("name", LAYERS)
def test_same_outputs_and_gradients(only, one_call, assert_close, name):
    shape = LAYERS[name][0]
    expected = one_call(lambda: _layer(name), shape)
    with only("grouped_convolution"):
        assert_close(one_call(lambda: _layer(name), shape), expected, 1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_bfloat16_is_as_close_to_float32_as_keras_is(only, one_call, name):
    shape = LAYERS[name][0]
    wide = one_call(lambda: _layer(name), shape)
    bare = one_call(lambda: _layer(name, "mixed_bfloat16"), shape)
    with only("grouped_convolution"):
        mine = one_call(lambda: _layer(name, "mixed_bfloat16"), shape)
    for own, kerass, exact in zip(mine, bare, wide, strict=True):
        error = np.abs(own - exact).mean()
        assert error <= np.abs(kerass - exact).mean() * 1.3 + 1e-6


@pytest.mark.parametrize(
    "way", ["eager", "unknown batch", "unknown sizes", "compiled", "replica", "threads"]
)
@pytest.mark.parametrize("name", ["two groups", "one channel each", "sequence"])
def test_same_numbers_in_every_way_of_running(only, one_call, assert_close, name, way):
    shape = LAYERS[name][0]
    expected = one_call(lambda: _layer(name), shape, way=way)
    with only("grouped_convolution"):
        assert_close(one_call(lambda: _layer(name), shape, way=way), expected, 1e-5)


def _calls_xla(layer, shape):
    import tensorflow as tf

    layer.build(shape)
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec(shape)).graph
    nodes = graph.as_graph_def()
    functions = [*nodes.node, *(n for f in nodes.library.function for n in f.node_def)]
    compiled = any(node.attr["_XlaMustCompile"].b for node in functions)
    return compiled or any(f.attr["_XlaMustCompile"].b for f in nodes.library.function)


@pytest.mark.skipif(
    not has_onednn_kernels("float32"), reason="oneDNN computes no convolutions here"
)
def test_xla_is_called_only_without_the_path(only):
    assert _calls_xla(_layer("two groups"), IMAGE)
    with only("grouped_convolution"):
        assert not _calls_xla(_layer("two groups"), IMAGE)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_dtypes_are_left_to_keras(only, dtype):
    with only("grouped_convolution"):
        assert _calls_xla(_layer("two groups", dtype), IMAGE)


def test_without_onednn_everything_is_left_to_keras(only, monkeypatch):
    """Eigen has no gradients of it."""
    monkeypatch.setattr(grouped_convolution, "has_onednn_kernels", lambda _: False)
    with only("grouped_convolution"):
        assert _calls_xla(_layer("two groups"), IMAGE)


@pytest.mark.parametrize("shape", [(2, 2, 8, 8), (2, 8, 2, 8)], ids=str)
def test_the_error_of_an_empty_output_is_that_of_keras(only, shape):
    def error():
        with pytest.raises(ValueError) as found:  # noqa: PT011 - the text is what is compared
            _layer("two groups")(np.zeros(shape, "float32"))
        return str(found.value)

    expected = error()
    with only("grouped_convolution"):
        assert error() == expected


def test_the_error_of_wrong_groups_is_that_of_keras(only):
    import keras

    def error():
        with pytest.raises(Exception) as found:  # noqa: PT011 - only its type is compared
            keras.ops.conv(np.zeros((1, 5, 5, 6), "float32"), np.zeros((3, 3, 4, 8), "float32"))
        return type(found.value)

    expected = error()
    with only("grouped_convolution"):
        assert error() is expected


def test_gradients_of_gradients(only, assert_close):
    import keras
    import tensorflow as tf

    def penalty(name):
        keras.utils.set_random_seed(4)
        layer = _layer(name)
        inputs = tf.constant(np.random.default_rng(3).standard_normal(IMAGE, "float32"))
        layer.build(inputs.shape)

        @tf.function
        def of(inputs):
            with tf.GradientTape() as outer:
                outer.watch(inputs)
                with tf.GradientTape() as inner:
                    inner.watch(inputs)
                    score = tf.reduce_sum(layer(inputs) ** 3)
                norm = tf.reduce_sum(inner.gradient(score, inputs) ** 2)
            return outer.gradient(norm, [inputs, layer.kernel.value])

        return [part.numpy() for part in of(inputs)]

    for name in ("two groups", "one channel each"):
        expected = penalty(name)
        with only("grouped_convolution"):
            assert_close(penalty(name), expected, 1e-4)


def test_ten_steps_and_a_saved_model(only, ten_steps, assert_close, tmp_path):
    import keras

    def build():
        layers = [_layer("same"), _layer("one channel each"), keras.layers.Flatten()]
        return keras.Sequential([keras.Input(IMAGE[1:]), *layers, keras.layers.Dense(3)])

    rng = np.random.default_rng(3)
    inputs, targets = rng.standard_normal((40, *IMAGE[1:]), "float32"), rng.standard_normal((40, 3))
    _, expected = ten_steps(build, inputs, targets)
    with only("grouped_convolution"):
        model, weights = ten_steps(build, inputs, targets)
        model.save(tmp_path / "model.keras")
        mine = model.predict(inputs, verbose=0)
    assert_close(weights, expected, 1e-4)
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_close([loaded.predict(inputs, verbose=0)], [mine], 1e-5)
