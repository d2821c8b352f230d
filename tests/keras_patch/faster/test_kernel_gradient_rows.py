"""Kernel gradients as products over rows equal TensorFlow's, wherever they are taken.

The tolerance is 1e-5 relative to the largest number of each tensor: the sums have another order.
"""

from __future__ import annotations

import numpy as np
import pytest

from nano_init.keras_patch.faster import convolution
from nano_init.keras_patch.faster.kernel_gradient_rows import (
    Geometry,
    gradient_by_rows,
    pays_by_rows,
)

KERNELS = [(1, 1), (3, 3), (2, 5), (4, 4), (7, 2), (1, 7), (5, 1)]
STRIDES = [(1, 1), (2, 2), (3, 3), (1, 2), (1, 3)]
DILATIONS = [(2, 2), (1, 3), (3, 1)]

# Layer, its options and its input, for each variant.
CASES = {
    "same": ("Conv2D", {"kernel_size": 3, "padding": "same"}, (2, 4, 7, 8)),
    "valid": ("Conv2D", {"kernel_size": (2, 3)}, (2, 4, 7, 8)),
    "strides": ("Conv2D", {"kernel_size": 3, "strides": 2, "padding": "same"}, (2, 5, 7, 8)),
    "no bias": ("Conv2D", {"kernel_size": 3, "use_bias": False}, (2, 4, 7, 8)),
    "activation": ("Conv2D", {"kernel_size": 3, "activation": "relu"}, (2, 4, 7, 8)),
    "sequence": ("Conv1D", {"kernel_size": 3, "padding": "same"}, (2, 11, 8)),
    "valid sequence": ("Conv1D", {"kernel_size": 4, "activation": "relu"}, (2, 11, 8)),
    "causal sequence": ("Conv1D", {"kernel_size": 4, "padding": "causal"}, (2, 11, 8)),
    "strided sequence": ("Conv1D", {"kernel_size": 5, "strides": 3}, (2, 13, 8)),
    "causal strides": ("Conv1D", {"kernel_size": 3, "strides": 2, "padding": "causal"}, (2, 9, 8)),
    "dilation": ("Conv2D", {"kernel_size": 3, "dilation_rate": 2, "padding": "same"}, (2, 5, 7, 8)),
    "dilated": ("Conv1D", {"kernel_size": 3, "dilation_rate": 4, "padding": "causal"}, (2, 9, 8)),
    "valid dilated": ("Conv1D", {"kernel_size": 3, "dilation_rate": 2}, (2, 9, 8)),
}


@pytest.fixture
def rows(monkeypatch, only):
    """Return a context in which products over rows are taken for all shapes, on any machine."""
    monkeypatch.setattr(convolution, "has_avx2_kernels", lambda: True)
    monkeypatch.setattr(convolution, "pays_by_rows", lambda *_: True)
    return lambda: only("convolution")


def _maker(kind, options):
    import keras

    return lambda: getattr(keras.layers, kind)(**{"filters": 6, **options})


def _ops(layer, inputs, training=True):
    """Return the types of ops that a graph runs for the gradient by the kernel."""
    import tensorflow as tf

    def call(inputs):
        with tf.GradientTape() as tape:
            output = layer(inputs, training=training)
        return tape.gradient(output, layer.kernel.value)

    graph = tf.function(call).get_concrete_function(inputs).graph
    waiting, found = [tensor.op for tensor in graph.outputs], {}
    while waiting:
        op = waiting.pop()
        if op.name not in found:
            found[op.name] = op.type
            waiting += [tensor.op for tensor in op.inputs]
    return set(found.values())


@pytest.mark.tensorflow
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
    ("strides", "dilations"),
    [*((each, (1, 1)) for each in STRIDES), *(((1, 1), each) for each in DILATIONS)],
    ids=str,
)
@pytest.mark.parametrize("kernel_size", KERNELS, ids=str)
def test_the_gradient_is_the_sum_over_all_outputs(
    assert_close, padding, strides, dilations, kernel_size
):
    """Against NumPy: oneDNN 3.7's is wrong for AVX2, a kernel of 1x1 and strides of (1, 3)."""
    import tensorflow as tf

    rng = np.random.default_rng(3)
    geometry = Geometry(strides, padding, dilations)
    for size in [(19, 21), (20, 22), (22, 24)]:
        inputs = rng.standard_normal((2, *size, 3)).astype("float32")
        kernel = tf.zeros((*kernel_size, 3, 5))
        shape = tf.nn.convolution(inputs, kernel, strides, padding, dilations=dilations).shape
        upstream = rng.standard_normal(shape).astype("float32")
        found = gradient_by_rows(tf.constant(inputs), tf.constant(upstream), kernel_size, geometry)
        assert_close([found], [_by_sums(inputs, upstream, kernel_size, geometry)])


def _by_sums(inputs, upstream, kernel_size, geometry):
    pads, spans, steps = [], [], geometry.dilations
    for axis in (0, 1):
        span = (upstream.shape[axis + 1] - 1) * geometry.strides[axis] + 1
        reach = (kernel_size[axis] - 1) * steps[axis]
        missing = max(span + reach - inputs.shape[axis + 1], 0) * (geometry.padding == "SAME")
        pads.append((missing // 2, missing - missing // 2))
        spans.append(span)
    inputs = np.pad(inputs, [(0, 0), *pads, (0, 0)])
    result = np.empty((*kernel_size, inputs.shape[-1], upstream.shape[-1]), "float32")
    for i in range(kernel_size[0]):
        for j in range(kernel_size[1]):
            starts = (steps[0] * i, steps[1] * j)
            rows, columns = (
                slice(start, start + span, stride)
                for start, span, stride in zip(starts, spans, geometry.strides, strict=True)
            )
            result[i, j] = np.einsum("nhwc,nhwf->cf", inputs[:, rows, columns], upstream)
    return result


@pytest.mark.tensorflow
@pytest.mark.parametrize("way", ["graph", "eager", "unknown batch", "compiled", "replica"])
@pytest.mark.parametrize("case", CASES)
def test_layers_equal_keras(rows, one_call, assert_close, case, way):
    kind, options, shape = CASES[case]
    expected = one_call(_maker(kind, options), shape, way=way)
    with rows():
        found = one_call(_maker(kind, options), shape, way=way)
    assert_close(found, expected)


@pytest.mark.tensorflow
@pytest.mark.parametrize("case", CASES)
def test_products_replace_the_kernel_gradient_of_onednn(rows, case):
    import tensorflow as tf

    kind, options, shape = CASES[case]
    with rows():
        layer = _maker(kind, options)()
        layer.build(shape)
        ops = _ops(layer, tf.ones(shape))
    assert "MatMul" in ops
    assert "Conv2DBackpropFilter" not in ops


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("kind", "options", "shape"),
    [
        ("Conv2D", {"groups": 2}, (2, 8, 8, 8)),
        ("Conv2D", {"strides": (1, 2)}, (2, 8, 8, 8)),
        ("Conv2D", {"dtype": "mixed_bfloat16"}, (2, 8, 8, 8)),
        ("Conv2D", {}, (2, None, 8, 8)),
        ("Conv1D", {"groups": 2}, (2, 8, 8)),
        ("Conv1D", {"dtype": "mixed_bfloat16"}, (2, 8, 8)),
        ("Conv1D", {}, (2, None, 8)),
        ("Conv3D", {}, (2, 4, 4, 4, 8)),
    ],
    ids=str,
)
def test_other_convolutions_are_left_to_onednn(rows, kind, options, shape):
    import tensorflow as tf

    with rows():
        layer = _maker(kind, {"kernel_size": 3, **options})()
        layer.build((*shape[:-1], 8))
        ops = _ops(layer, tf.TensorSpec(shape, layer.compute_dtype))
    assert "MatMul" not in ops


@pytest.mark.tensorflow
@pytest.mark.parametrize("kind", ["Conv1D", "Conv2D"])
@pytest.mark.parametrize("why", ["inference", "AVX-512", "small"])
def test_rows_are_taken_only_where_they_pay(rows, monkeypatch, kind, why):
    import tensorflow as tf

    if why == "AVX-512":
        monkeypatch.setattr(convolution, "has_avx2_kernels", lambda: False)
    if why == "small":
        monkeypatch.setattr(convolution, "pays_by_rows", pays_by_rows)
    shape = (2, 8, 8) if kind == "Conv1D" else (2, 8, 8, 8)
    with rows():
        layer = _maker(kind, {"kernel_size": 3})()
        layer.build(shape)
        assert "MatMul" not in _ops(layer, tf.ones(shape), training=why != "inference")


@pytest.mark.parametrize(
    ("kernel_size", "image", "channels", "filters", "expected"),
    [
        ((3, 3), (96, 96), 32, 32, True),
        ((3, 3), (48, 48), 32, 64, True),
        ((3, 3), (1, 48), 32, 64, True),
        ((3, 3), (200, 47), 32, 64, False),
        ((5, 5), (48, 48), 64, 64, False),
        ((3, 1), (35, 35), 64, 64, True),
        ((3, 1), (31, 31), 64, 64, False),
        ((3, 3), (96, 96), 3, 32, False),
        ((3, 3), (96, 96), 32, 16, False),
        ((3, 3), (96, 96), 40, 40, False),
        ((1, 1), (96, 96), 64, 64, False),
        ((7,), (500,), 128, 128, True),
        ((7,), (100,), 128, 128, False),
        ((3,), (400,), 300, 100, True),
        ((1,), (400,), 128, 128, False),
    ],
)
def test_wide_images_with_many_channels_pay(kernel_size, image, channels, filters, expected):
    assert pays_by_rows(kernel_size, image, channels, filters) is expected


@pytest.mark.parametrize(
    ("kernel_size", "dilations", "image", "expected"),
    [
        ((3,), (2,), (400,), True),
        ((3,), (50,), (400,), True),
        ((3,), (51,), (400,), False),
        ((3, 3), (2, 2), (96, 96), False),
    ],
)
def test_dilation_pays_for_sequences(kernel_size, dilations, image, expected):
    assert pays_by_rows(kernel_size, image, 64, 64, dilations) is expected


@pytest.mark.tensorflow
@pytest.mark.parametrize("case", ["same", "strides", "sequence", "strided sequence", "dilated"])
def test_gradients_of_gradients_equal_keras(rows, assert_close, case):
    """As of a penalty on the norm of a gradient."""
    kind, options, shape = CASES[case]
    expected = _second_gradients(_maker(kind, options)(), shape)
    with rows():
        found = _second_gradients(_maker(kind, options)(), shape)
    assert_close(found, expected)


def _second_gradients(layer, shape):
    import tensorflow as tf

    rng = np.random.default_rng(4)
    layer.build(shape)
    for weight in layer.trainable_weights:
        weight.assign(rng.uniform(-1.0, 1.0, weight.shape))
    weights = [weight.value for weight in layer.trainable_weights]

    @tf.function
    def call(inputs):
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(inputs)
                score = tf.reduce_sum(tf.sin(layer(inputs)))
            parts = inner.gradient(score, [inputs, *weights])
            norm = tf.add_n([tf.reduce_sum(part**2) for part in parts])
        return outer.gradient(norm, weights)

    return [part.numpy() for part in call(tf.constant(rng.standard_normal(shape), tf.float32))]


@pytest.mark.tensorflow
@pytest.mark.parametrize("case", ["same", "strides", "sequence", "strided sequence", "dilated"])
def test_the_change_of_a_gradient_along_a_vector_equals_keras(rows, assert_close, case):
    """Forward-mode over the gradient by the kernel, as of a product with the Hessian."""
    kind, options, shape = CASES[case]
    expected = _hessian_product(_maker(kind, options)(), shape)
    with rows():
        found = _hessian_product(_maker(kind, options)(), shape)
    assert_close(found, expected)


def _hessian_product(layer, shape):
    import tensorflow as tf

    rng = np.random.default_rng(5)
    layer.build(shape)
    layer.kernel.assign(rng.uniform(-1.0, 1.0, layer.kernel.shape))
    inputs, along = (tf.constant(rng.standard_normal(shape), tf.float32) for _ in range(2))

    @tf.function
    def call(inputs, along):
        with tf.autodiff.ForwardAccumulator(inputs, along) as accumulator:
            with tf.GradientTape() as tape:
                score = tf.reduce_sum(tf.sin(layer(inputs)))
            gradient = tape.gradient(score, layer.kernel.value)
        return accumulator.jvp(gradient)

    return [call(inputs, along).numpy()]


@pytest.mark.tensorflow
def test_ten_steps_of_a_text_classifier(rows, ten_steps, assert_close):
    """Weights are within 1e-4: rounding over ten steps."""
    import keras

    def build():
        layers = keras.layers
        stack = [keras.Input((20,)), layers.Embedding(9, 8)]
        stack += [layers.Conv1D(8, 3, 2, activation="relu"), layers.Conv1D(8, 3, padding="same")]
        return keras.Sequential([*stack, layers.GlobalMaxPooling1D(), layers.Dense(3)])

    rng = np.random.default_rng(0)
    data = rng.integers(0, 9, (40, 20)), rng.standard_normal((40, 3), "float32")
    _, expected = ten_steps(build, *data)
    with rows():
        _, found = ten_steps(build, *data)
    assert_close(found, expected, 1e-4)
