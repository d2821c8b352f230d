"""Convolutions as matrix products give the same numbers as TensorFlow's convolutions.

Tolerances are relative to the largest number of each tensor: 1e-5 in float32, since the sums have
another order, and 2^-7 in bfloat16, since a product rounds a float32 sum to eight bits once. In
bfloat16 the numbers are compared through those of float32: without a bfloat16 unit, TensorFlow's
own gradients of convolutions add up in bfloat16 and are up to five times less exact.
"""

from __future__ import annotations

import numpy as np
import pytest

from nano_init.keras_patch.faster import kernel_gradient_positions

pytestmark = pytest.mark.tensorflow

TOLERANCES = {"float32": 1e-5, "mixed_bfloat16": 2**-7}

# Layer options and input shape for each variant of the path.
CASES = {
    "product": ({"use_bias": False}, (4, 6, 5, 16)),
    "bias": ({}, (4, 6, 5, 16)),
    "strides": ({"strides": 2}, (4, 7, 6, 16)),
    "strides without bias": ({"strides": 2, "use_bias": False, "padding": "same"}, (4, 7, 6, 16)),
    "strides of 3": ({"strides": 3, "use_bias": False}, (4, 6, 11, 16)),
    "even strides": ({"strides": 2, "use_bias": False}, (4, 6, 8, 16)),
    "activation": ({"activation": "relu"}, (4, 6, 5, 16)),
}
# Images with so few pixels per channel that there is a product for each position of the kernel.
TINY = {
    "same": ({"kernel_size": 3, "padding": "same"}, (4, 2, 3, 56)),
    "same, even kernel": ({"kernel_size": 2, "padding": "same"}, (4, 2, 3, 56)),
    "valid": ({"kernel_size": (2, 3), "padding": "valid"}, (4, 2, 3, 56)),
    "without bias": ({"kernel_size": 3, "padding": "same", "use_bias": False}, (4, 2, 3, 56)),
    "strides": ({"kernel_size": 3, "padding": "same", "strides": 2}, (4, 4, 5, 56)),
    "valid, strides": ({"kernel_size": 3, "strides": 2}, (4, 5, 7, 56)),
}


@pytest.fixture(autouse=True)
def _as_with_onednn(monkeypatch):
    """Take the path for tiny images on any machine."""
    monkeypatch.setattr(kernel_gradient_positions, "uses_onednn", lambda: True)
    monkeypatch.setattr(kernel_gradient_positions, "is_slow_in_bfloat16", lambda: False)


def _layer(dtype="float32", kind="Conv2D", **options):
    import keras

    options = {"filters": 56, "kernel_size": 1, **options}
    return getattr(keras.layers, kind)(**options, dtype=dtype)


def _maker(dtype, options):
    return lambda: _layer(dtype, **options)


def _ops(layer, inputs):
    """Return the types of ops that compute with the kernel in the graph of a step."""
    import tensorflow as tf

    def call(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            output = layer(inputs)
        return tape.gradient(output, [inputs, layer.kernel.value])

    graph = tf.function(call).get_concrete_function(inputs).graph
    kinds = {op.type for op in graph.get_operations()}
    return sorted(kinds & {"Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter", "MatMul"})


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("case", CASES)
def test_kernels_of_one_pixel_equal_keras(only, one_call, assert_close, dtype, case):
    options, shape = CASES[case]
    expected = one_call(_maker(dtype, options), shape)
    with only("convolution"):
        found = one_call(_maker(dtype, options), shape)
    if dtype == "float32":
        assert_close(found, expected, TOLERANCES[dtype])
    else:
        _assert_as_exact(found, expected, one_call(_maker("float32", options), shape))


@pytest.mark.parametrize("case", TINY)
def test_tiny_images_equal_keras(only, one_call, case):
    options, shape = TINY[case]
    expected = one_call(_maker("mixed_bfloat16", options), shape)
    with only("convolution"):
        found = one_call(_maker("mixed_bfloat16", options), shape)
    _assert_as_exact(found, expected, one_call(_maker("float32", options), shape))


def _assert_as_exact(found, expected, exact):
    """Require that `found` is at most a rounding further from float32 than Keras's own numbers."""
    for mine, keras_own, reference in zip(found, expected, exact, strict=True):
        assert mine.shape == reference.shape
        scale = max(1.0, np.abs(reference).max())
        own_error = np.abs(keras_own - reference).max() / scale
        assert np.abs(mine - reference).max() / scale <= own_error + TOLERANCES["mixed_bfloat16"]


@pytest.mark.parametrize("way", ["eager", "unknown batch", "compiled", "replica", "threads"])
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("case", ["product", "bias", "strides"])
def test_same_numbers_in_every_way_of_running(only, one_call, assert_close, way, dtype, case):
    """Within four times the tolerance, since XLA's convolutions round at other places."""
    options, shape = CASES[case]
    expected = one_call(_maker(dtype, options), shape, way=way)
    with only("convolution"):
        found = one_call(_maker(dtype, options), shape, way=way)
    assert_close(found, expected, 4 * TOLERANCES[dtype])


@pytest.mark.parametrize("way", ["eager", "unknown batch", "compiled", "threads"])
def test_tiny_images_in_every_way_of_running(only, one_call, assert_close, way):
    options, shape = TINY["same"]
    expected = one_call(_maker("mixed_bfloat16", options), shape, way=way)
    with only("convolution"):
        found = one_call(_maker("mixed_bfloat16", options), shape, way=way)
    assert_close(found, expected, 2**-5)


@pytest.mark.parametrize("rank", [2, 3])
def test_unknown_image_sizes_equal_keras(only, assert_close, rank):
    import tensorflow as tf

    shape = (3, *(5, 4, 3)[:rank], 8)
    inputs = tf.constant(np.random.default_rng(1).standard_normal(shape, "float32"))

    def output():
        import keras

        keras.utils.set_random_seed(1)
        layer = _layer(kind=f"Conv{rank}D", use_bias=False)
        layer.build((*[None] * (rank + 1), 8))
        spec = tf.TensorSpec([*[None] * (rank + 1), 8])
        return tf.function(layer, input_signature=[spec])(inputs).numpy()

    expected = output()
    with only("convolution"):
        assert_close([output()], [expected], 1e-5)


@pytest.mark.parametrize("case", ["product", "bias", "strides"])
def test_a_batch_of_one(only, one_call, assert_close, case):
    options, shape = CASES[case]
    shape = (1, *shape[1:])
    expected = one_call(_maker("float32", options), shape, way="unknown batch")
    with only("convolution"):
        found = one_call(_maker("float32", options), shape, way="unknown batch")
    assert_close(found, expected, 1e-5)


def test_an_empty_batch_has_outputs_of_the_right_shape(only):
    """In TensorFlow, the outputs have as many channels as the inputs, and gradients fail."""
    import tensorflow as tf

    with only("convolution"):
        layer = _layer(use_bias=False)
        spec = tf.TensorSpec([None, 6, 5, 16])
        outputs = tf.function(layer, input_signature=[spec])(tf.zeros((0, 6, 5, 16)))
    assert outputs.shape == (0, 6, 5, 56)


@pytest.mark.parametrize(
    ("options", "shape", "dtype", "expected"),
    [
        ({"use_bias": False}, (2, 4, 4, 16), "float32", ["MatMul"]),
        ({}, (2, 4, 4, 16), "float32", ["Conv2D", "MatMul"]),
        ({"strides": 2}, (2, 4, 4, 16), "float32", ["Conv2D", "MatMul"]),
        ({"strides": 2}, (2, None, 4, 16), "float32", ["Conv2D", "Conv2DBackpropInput", "MatMul"]),
        (
            {"kernel_size": 3, "padding": "same"},
            (2, 2, 2, 56),
            "mixed_bfloat16",
            ["Conv2D", "Conv2DBackpropInput", "MatMul"],
        ),
        (
            {"kernel_size": 3, "padding": "same", "strides": 2},
            (2, 4, 4, 56),
            "mixed_bfloat16",
            ["Conv2D", "Conv2DBackpropInput", "MatMul"],
        ),
    ],
    ids=str,
)
def test_a_convolution_is_replaced_by_the_expected_ops(only, options, shape, dtype, expected):
    import tensorflow as tf

    with only("convolution"):
        layer = _layer(dtype, **options)
        layer.build(shape)
        assert _ops(layer, tf.TensorSpec(shape, layer.compute_dtype)) == expected


@pytest.mark.parametrize(
    ("options", "dtype", "shape"),
    [
        ({"kernel_size": 3}, "float32", (2, 4, 4, 16)),
        ({"kernel_size": 3, "padding": "same"}, "float32", (2, 2, 2, 56)),
        ({"kernel_size": 3, "padding": "same"}, "mixed_bfloat16", (2, 4, 4, 16)),
        ({"kernel_size": 3, "padding": "same"}, "mixed_bfloat16", (2, None, 2, 56)),
        (
            {"kernel_size": 3, "padding": "same", "dilation_rate": 2},
            "mixed_bfloat16",
            (2, 2, 2, 56),
        ),
        ({"strides": (1, 2)}, "float32", (2, 4, 4, 16)),
    ],
    ids=str,
)
def test_other_convolutions_are_not_replaced(only, options, dtype, shape):
    import tensorflow as tf

    with only("convolution"):
        layer = _layer(dtype, **options)
        layer.build(shape)
        assert "MatMul" not in _ops(layer, tf.TensorSpec(shape, layer.compute_dtype))


@pytest.mark.parametrize(("training", "expected"), [(False, 0), (None, 1), (True, 1)])
def test_convolutions_with_a_bias_are_not_replaced_in_inference(only, training, expected):
    """`custom_gradient` would prevent the fusion of the bias with an activation."""
    import keras
    import tensorflow as tf

    with only("convolution"):
        inputs = keras.Input((4, 4, 16))
        model = keras.Model(inputs, _layer()(inputs))
        call = tf.function(lambda x: model(x, training=training))
        graph = call.get_concrete_function(tf.TensorSpec((2, 4, 4, 16))).graph
    assert sum(op.type == "IdentityN" for op in graph.get_operations()) == expected


def test_a_convolution_op_of_the_user_is_called(only):
    import keras
    import tensorflow as tf

    class Doubled(keras.layers.Conv2D):
        def convolution_op(self, inputs, kernel):
            return 2.0 * super().convolution_op(inputs, kernel)

    inputs = tf.ones((1, 2, 2, 3))
    with only("convolution"):
        layer = Doubled(4, 1, kernel_initializer="ones")
        assert np.all(layer(inputs).numpy() == 6.0)


def test_nan_affects_only_the_sums_that_contain_it(only, one_call):
    """A pixel that the strides skip does not count in the gradient of the kernel."""
    import tensorflow as tf

    inputs = np.ones((1, 4, 4, 2), "float32")
    inputs[0, 1, 1] = np.nan
    with only("convolution"):
        layer = _layer(strides=2)
        layer.build(inputs.shape)
        with tf.GradientTape() as tape:
            score = tf.reduce_sum(layer(tf.constant(inputs)))
        assert np.all(np.isfinite(tape.gradient(score, layer.kernel.value).numpy()))


@pytest.mark.parametrize("options", [{}, {"strides": 2}, {"use_bias": False}], ids=str)
def test_a_gradient_of_unknown_shape_equals_keras(only, options):
    """Such as the gradient of a loss in a `tf.py_function`."""
    import tensorflow as tf

    def loss(output):
        return tf.py_function(lambda part: tf.reduce_sum(part**2), [output], tf.float32)

    def gradients():
        import keras

        keras.utils.set_random_seed(1)
        layer = _layer(**options)
        layer.build((2, 4, 4, 8))

        @tf.function
        def call(inputs):
            with tf.GradientTape() as tape:
                score = loss(layer(inputs))
            return tape.gradient(score, [weight.value for weight in layer.trainable_weights])

        return [part.numpy() for part in call(tf.ones((2, 4, 4, 8)))]

    expected = gradients()
    with only("convolution"):
        found = gradients()
    for mine, own in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, own, rtol=1e-5)


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_ten_steps_of_a_residual_block(only, ten_steps, assert_close, dtype):
    """Weights are within 1e-4 in float32, 2e-2 in bfloat16: rounding over ten steps."""
    import keras

    def build():
        layers = keras.layers
        inputs = keras.Input((8, 8, 16))
        x = layers.Conv2D(16, 1, activation="relu", dtype=dtype)(inputs)
        x = layers.Conv2D(16, 3, padding="same", use_bias=False, dtype=dtype)(x)
        x = layers.Conv2D(32, 1, 2, use_bias=False, dtype=dtype)(x)
        x = layers.Add()([x, layers.Conv2D(32, 1, 2, dtype=dtype)(inputs)])
        return keras.Sequential(
            [keras.Model(inputs, layers.GlobalAveragePooling2D()(x)), layers.Dense(3)]
        )

    rng = np.random.default_rng(0)
    data = rng.standard_normal((40, 8, 8, 16), "float32"), rng.standard_normal((40, 3), "float32")
    _, expected = ten_steps(build, *data)
    with only("convolution"):
        _, found = ten_steps(build, *data)
    assert_close(found, expected, {"float32": 1e-4, "mixed_bfloat16": 2e-2}[dtype])
