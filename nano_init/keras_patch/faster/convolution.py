"""Convolutions, or their kernel gradients, as matrix products where those are faster.

1x1 kernels are the greater part of ResNet, MobileNet, EfficientNet and the like. oneDNN 3.7
computes the gradient by such a kernel at a half to a fifth of the speed of the equivalent matrix
product; the smaller the image, the slower. Outputs are as fast or faster as products, except with a
bias, which oneDNN fuses into the convolution. Larger kernels gain for tiny images with many
channels, although pixels have to be copied (`kernel_gradient_positions`), and on processors without
AVX-512 for wide images and long sequences, where none are copied (`kernel_gradient_rows`).
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fallback import with_faster_path
from nano_init.keras_patch.faster.kernel_gradient_positions import (
    gradient_by_positions,
    pays_by_positions,
    take_pixels,
)
from nano_init.keras_patch.faster.kernel_gradient_rows import (
    Geometry,
    gradient_by_rows,
    pays_by_rows,
)
from nano_init.keras_patch.faster.processor import has_avx2_kernels
from nano_init.keras_patch.faster.row_matmul import multiply_rows, sum_rows
from nano_init.keras_patch.faster.xla_fusion import is_compiled_by_xla, is_inference
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from nano_init.keras_patch.tensor_types import Layer, Tensor, TensorShape

__all__ = ["convolution_replacements"]


def convolution_replacements() -> Iterator[Replacement]:
    """Yield the replacements that use matrix products for convolutions that gain from them."""
    from keras.src.layers.convolutional.base_conv import BaseConv
    from keras.src.layers.convolutional.conv1d import Conv1D

    original = vars(BaseConv)["call"]
    faster = with_faster_path("convolution", original, _applies, _convolve)
    yield Replacement(BaseConv, "call", faster)
    original = vars(Conv1D)["call"]
    faster = with_faster_path("convolution", original, _sequence_applies, _convolve_sequence)
    yield Replacement(Conv1D, "call", faster)


def _applies(layer: Layer, inputs: Any) -> bool:
    from keras.src.layers.convolutional.base_conv import BaseConv

    return (
        type(layer).convolution_op is BaseConv.convolution_op
        and _is_plain(layer, inputs)
        and (_is_product(layer) or _gains_by_gradient(layer, inputs))
    )


def _sequence_applies(layer: Layer, inputs: Any) -> bool:
    return _is_plain(layer, inputs) and not is_inference() and _gains_by_rows(layer, inputs)


def _is_plain(layer: Layer, inputs: Any) -> bool:
    import tensorflow as tf

    return (
        layer.groups == 1
        and layer.data_format == "channels_last"
        and isinstance(inputs, tf.Tensor)
        and inputs.dtype in (tf.float32, tf.bfloat16)
        and inputs.dtype.name == layer.compute_dtype
        and inputs.shape.rank == layer.rank + 2
        and inputs.shape[-1] == layer.kernel.shape[-2]
        # A size of 0 cannot be inferred next to another one.
        and 0 not in inputs.shape
    )


def _is_product(layer: Layer) -> bool:
    """Say whether the whole convolution is faster as a product of pixels and channels."""
    return _has_one_pixel(layer) and set(layer.strides) == {1} and not layer.use_bias


def _has_one_pixel(layer: Layer) -> bool:
    return set(layer.kernel_size) == {1}


def _gains_by_gradient(layer: Layer, inputs: Tensor) -> bool:
    # Without a gradient, TensorFlow fuses more: a bias and an activation into the convolution.
    if is_inference() or layer.rank != 2 or layer.strides[0] != layer.strides[1]:
        return False
    return _has_one_pixel(layer) or _is_tiny_image(layer, inputs) or _gains_by_rows(layer, inputs)


def _is_tiny_image(layer: Layer, inputs: Tensor) -> bool:
    image = inputs.shape[1:3]
    return (
        None not in image
        and layer.dilation_rate == (1, 1)
        and (layer.padding == "same" or _fits(layer.kernel_size, image))
        and pays_by_positions(
            layer.compute_output_shape(inputs.shape)[1:3],
            inputs.shape[-1],
            layer.filters,
            layer.strides[0],
            inputs.dtype.name,
        )
    )


def _gains_by_rows(layer: Layer, inputs: Tensor) -> bool:
    import tensorflow as tf

    image = inputs.shape[1:-1]
    return (
        inputs.dtype.name == "float32"
        and None not in image
        # Eagerly, the gradient by the inputs of a dilated one computes too much, see `_by_inputs`.
        and (set(layer.dilation_rate) == {1} or not tf.executing_eagerly())
        and (layer.padding != "valid" or _fits(_spans(layer), image))
        and pays_by_rows(
            layer.kernel_size, image, inputs.shape[-1], layer.filters, layer.dilation_rate
        )
        and has_avx2_kernels()
        and not is_compiled_by_xla()
    )


def _fits(spans: Sequence[int], image: Sequence[int]) -> bool:
    return all(size <= pixels for size, pixels in zip(spans, image, strict=True))


def _spans(layer: Layer) -> list[int]:
    """Return the pixels from a kernel's first position to its last, along each axis."""
    steps = zip(layer.kernel_size, layer.dilation_rate, strict=True)
    return [(size - 1) * dilation + 1 for size, dilation in steps]


def _convolve(layer: Layer, inputs: Tensor) -> Tensor:
    import tensorflow as tf

    kernel = tf.cast(tf.convert_to_tensor(layer.kernel), inputs.dtype)
    if _is_product(layer):
        matrix = tf.reshape(kernel, kernel.shape[-2:])
        outputs = multiply_rows(inputs, matrix, kernel.shape[-1:])
    else:
        # A kernel of one pixel skips none.
        dilations = (1, 1) if _has_one_pixel(layer) else layer.dilation_rate
        geometry = Geometry(layer.strides, layer.padding.upper(), dilations)
        operands = (inputs, kernel, *_bias_of(layer, inputs))
        outputs = _with_gradient(_kernel_gradient(layer, inputs), geometry, *operands)
    return outputs if layer.activation is None else layer.activation(outputs)


def _kernel_gradient(layer: Layer, inputs: Tensor) -> Callable[..., Tensor]:
    if _has_one_pixel(layer):
        return _gradient_by_pixels
    return gradient_by_positions if _is_tiny_image(layer, inputs) else gradient_by_rows


def _convolve_sequence(layer: Layer, inputs: Tensor) -> Tensor:
    """Convolve sequences as images with one line, as TensorFlow does."""
    import tensorflow as tf

    padding = layer.padding.upper()
    if padding == "CAUSAL":
        inputs, padding = tf.pad(inputs, [[0, 0], [_spans(layer)[0] - 1, 0], [0, 0]]), "VALID"
    kernel = tf.cast(tf.convert_to_tensor(layer.kernel), inputs.dtype)
    operands = (tf.expand_dims(inputs, 1), tf.expand_dims(kernel, 0), *_bias_of(layer, inputs))
    geometry = Geometry((1, *layer.strides), padding, (1, *layer.dilation_rate))
    outputs = tf.squeeze(_with_gradient(gradient_by_rows, geometry, *operands), 1)
    return outputs if layer.activation is None else layer.activation(outputs)


def _bias_of(layer: Layer, inputs: Tensor) -> tuple[Tensor, ...]:
    import tensorflow as tf

    if not layer.use_bias:
        return ()
    return (tf.cast(tf.convert_to_tensor(layer.bias), inputs.dtype),)


def _with_gradient(
    kernel_gradient: Callable[..., Tensor], geometry: Geometry, *operands: Tensor
) -> Tensor:
    """Convolve with oneDNN, with the kernel gradient by matrix products.

    Args:
        kernel_gradient: `gradient_by_rows` or another function with its arguments.
        geometry: How the convolution moves.
        operands: The inputs, the kernel, and the bias if there is one.
    """
    import tensorflow as tf

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def convolve(inputs: Tensor, kernel: Tensor, *bias: Tensor) -> Any:
        outputs = _outputs(inputs, kernel, geometry)

        def gradient(upstream: Tensor) -> tuple[Tensor, ...]:
            # The gradient from a `tf.py_function` has no shape.
            upstream.set_shape(outputs.shape)
            by_inputs = _by_inputs(inputs, kernel, upstream, geometry)
            by_kernel = kernel_gradient(inputs, upstream, kernel.shape[:2], geometry)
            return (by_inputs, by_kernel, *(sum_rows(upstream) for _ in bias))

        return (tf.nn.bias_add(outputs, *bias) if bias else outputs), gradient

    return convolve(*operands)


def _outputs(inputs: Tensor, kernel: Tensor, geometry: Geometry) -> Tensor:
    import tensorflow as tf

    strides, padding, dilations = geometry.strides, geometry.padding, geometry.dilations
    return tf.nn.convolution(inputs, kernel, strides, padding, dilations=dilations)


def _by_inputs(inputs: Tensor, kernel: Tensor, upstream: Tensor, geometry: Geometry) -> Tensor:
    import tensorflow as tf

    image, stride = inputs.shape[1:-1], geometry.strides[0]
    if kernel.shape[:2] == (1, 1) and (stride == 1 or image.is_fully_defined()):
        return _by_one_pixel(kernel, upstream, image, stride)
    if set(geometry.dilations) != {1}:
        # TensorFlow splits the inputs to convolve them, and so does its gradient. The outputs and
        # oneDNN's kernel gradient are dropped from the graph, since nothing reads them.
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = _outputs(inputs, kernel, geometry)
        return tape.gradient(outputs, inputs, upstream)
    return tf.raw_ops.Conv2DBackpropInput(
        input_sizes=tf.shape(inputs),
        filter=kernel,
        out_backprop=upstream,
        strides=[1, *geometry.strides, 1],
        padding=geometry.padding,
    )


def _gradient_by_pixels(
    inputs: Tensor, upstream: Tensor, size: Sequence[int], geometry: Geometry
) -> Tensor:
    """Return the gradient by a 1x1 kernel, as one product over all pixels that it covers.

    Padding adds none: TensorFlow pads only what a kernel needs beyond the last pixel that it
    covers (tensorflow/core/kernels/ops_util.cc, `GetWindowedOutputSize`).
    """
    import tensorflow as tf

    channels, filters = inputs.shape[-1], upstream.shape[-1]
    pixels = tf.reshape(take_pixels(inputs, geometry.strides[0]), [-1, channels])
    product = tf.matmul(pixels, tf.reshape(upstream, [-1, filters]), transpose_a=True)
    return tf.reshape(product, [*size, channels, filters])


def _by_one_pixel(kernel: Tensor, upstream: Tensor, image: TensorShape, stride: int) -> Tensor:
    """Return the gradient by the inputs of a 1x1 kernel.

    With strides, pixels that no kernel covers are zeros, which are put between the others after the
    product. oneDNN 3.7 takes up to 3.7 times as long, by medians of 7 alternating trials with AMX.

    Args:
        kernel: `[1, 1, channels, filters]`.
        upstream: The gradient by the outputs, `[batch, rows, columns, filters]`.
        image: The height and width of the inputs; with strides they are known while tracing.
        stride: The pixels that the kernel moves on by.

    Returns:
        `[batch, height, width, channels]`.
    """
    import tensorflow as tf

    matrix = tf.transpose(tf.reshape(kernel, kernel.shape[-2:]))
    covered = multiply_rows(upstream, matrix, matrix.shape[-1:])
    if stride == 1:
        return covered
    rows, columns, channels = covered.shape[1:]
    after = [[0, 0], [0, stride - 1], [0, 0], [0, (stride - 1) * channels]]
    lines = tf.pad(tf.reshape(covered, [-1, 1, columns, channels]), after)
    pixels = tf.reshape(lines, [-1, rows * stride, columns * stride, channels])
    return pixels if pixels.shape[1:3] == image else pixels[:, : image[0], : image[1]]
