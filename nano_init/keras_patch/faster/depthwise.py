"""Depthwise convolutions with the gradients that oneDNN computes slowly in faster ways.

oneDNN has no optimized bfloat16 kernel for the input gradient of a depthwise convolution with
strides and falls back to its reference implementation, which takes 16 to 60 times as long as
the float32 kernel. The gradient by a kernel of more than 3x3 takes two to six times as long in
bfloat16 as in float32. Both are computed in float32 here; outputs stay in bfloat16.

For small images most of a large kernel lies in the padding: one product for each of its positions
takes 0.7 ms instead of 2.4 for 8x3x3x1,152 and 5x5, and 0.5 instead of 11 for 8x3x3x768 and 7x7
(oneDNN 3.7, Zen 5, float32, processor time, medians of 7 alternating trials).
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fallback import with_faster_path
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Tensor, Variable

__all__ = ["depthwise_replacements"]

# The largest kernel whose gradient has a fast kernel of oneDNN, and the largest side of images for
# which products by position are faster for all larger ones (measured for 5x5 and 7x7).
_OPTIMIZED_KERNEL = 3
_LARGEST_SMALL_SIDE = 4


def depthwise_replacements() -> Iterator[Replacement]:
    """Yield the replacements for depthwise convolutions, also in separable ones."""
    from keras.src.backend.tensorflow import nn

    depthwise = with_faster_path("depthwise", nn.depthwise_conv, _applies, _convolve)
    yield Replacement(nn, "depthwise_conv", depthwise)
    separable = with_faster_path(
        "depthwise", nn.separable_conv, _separable_applies, _convolve_separably
    )
    yield Replacement(nn, "separable_conv", separable)


def _applies(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> bool:
    import tensorflow as tf
    from keras.src import backend

    return (
        isinstance(inputs, tf.Tensor)
        and inputs.dtype in (tf.float32, tf.bfloat16)
        and tf.is_tensor(kernel)
        and kernel.dtype == inputs.dtype
        and inputs.shape.rank == 4
        and inputs.shape[-1] == kernel.shape[2]
        and backend.standardize_data_format(data_format) == "channels_last"
        and _stride(strides) > 0
        and dilation_rate in (1, (1, 1))
        and _is_slow(inputs, kernel, _stride(strides), padding)
    )


def _is_slow(inputs: Tensor, kernel: Tensor | Variable, stride: int, padding: str) -> bool:
    """Say whether oneDNN computes one of the gradients slowly."""
    if inputs.dtype.name == "bfloat16" and (stride > 1 or _is_large(kernel)):
        return True
    return _pays_by_position(inputs, kernel, stride, padding)


def _is_large(kernel: Tensor | Variable) -> bool:
    height, width = kernel.shape[:2]
    return int(min(height, width)) > _OPTIMIZED_KERNEL


def _pays_by_position(inputs: Tensor, kernel: Tensor | Variable, stride: int, padding: str) -> bool:
    """Say whether the kernel's gradient is faster as one product for each of its positions."""
    sides = inputs.shape[1:3]
    if stride > 1 or padding.lower() != "same" or not sides.is_fully_defined():
        return False
    return _is_large(kernel) and int(max(sides)) <= _LARGEST_SMALL_SIDE


def _stride(strides: Any) -> int:
    """Return the stride if it is the same in both directions, otherwise 0."""
    first, second = (strides, strides) if isinstance(strides, int) else strides
    return int(first) if first == second else 0


def _convolve(
    inputs: Tensor,
    kernel: Tensor | Variable,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Tensor:
    del data_format, dilation_rate
    import tensorflow as tf

    stride = _stride(strides)
    options = {"strides": [1, stride, stride, 1], "padding": padding.upper()}
    by_position = _pays_by_position(inputs, kernel, stride, padding)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def convolve(inputs: Tensor, kernel: Tensor) -> Any:
        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            by_inputs = _input_gradient(inputs, kernel, upstream, options, is_wide=stride > 1)
            if by_position:
                return by_inputs, _kernel_gradient_by_position(inputs, kernel, upstream)
            is_wide = _is_large(kernel)
            return by_inputs, _kernel_gradient(inputs, kernel, upstream, options, is_wide=is_wide)

        return tf.raw_ops.DepthwiseConv2dNative(input=inputs, filter=kernel, **options), gradient

    return convolve(inputs, tf.convert_to_tensor(kernel))


def _input_gradient(
    inputs: Tensor, kernel: Tensor, upstream: Tensor, options: dict[str, Any], *, is_wide: bool
) -> Tensor:
    import tensorflow as tf

    dtype = tf.float32 if is_wide else inputs.dtype
    found = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
        input_sizes=tf.shape(inputs),
        filter=tf.cast(kernel, dtype),
        out_backprop=tf.cast(upstream, dtype),
        **options,
    )
    return tf.cast(found, inputs.dtype)


def _kernel_gradient(
    inputs: Tensor, kernel: Tensor, upstream: Tensor, options: dict[str, Any], *, is_wide: bool
) -> Tensor:
    import tensorflow as tf

    dtype = tf.float32 if is_wide else inputs.dtype
    found = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
        input=tf.cast(inputs, dtype),
        filter_sizes=tf.shape(kernel),
        out_backprop=tf.cast(upstream, dtype),
        **options,
    )
    return tf.cast(found, kernel.dtype)


def _kernel_gradient_by_position(inputs: Tensor, kernel: Tensor, upstream: Tensor) -> Tensor:
    """Return the kernel's gradient: for each position, the sum over what it multiplies.

    Args:
        inputs: Images of known sizes, which the padding keeps.
        kernel: The kernel, of shape [height, width, channels, multiplier].
        upstream: The gradient by the outputs.
    """
    import tensorflow as tf

    height, width, channels, multiplier = kernel.shape
    sides = inputs.shape[1], inputs.shape[2]
    pixels = tf.cast(inputs, tf.float32)[..., tf.newaxis]
    given = tf.reshape(tf.cast(upstream, tf.float32), [-1, *sides, channels, multiplier])
    found = []
    for row in range(height):
        for column in range(width):
            offsets = row - (height - 1) // 2, column - (width - 1) // 2
            (read, into), (across, along) = map(_overlap, sides, offsets)
            product = pixels[:, read, across] * given[:, into, along]
            found.append(tf.reduce_sum(product, [0, 1, 2]))
    return tf.cast(tf.reshape(tf.stack(found), kernel.shape), kernel.dtype)


def _overlap(side: int, offset: int) -> tuple[slice, slice]:
    """Return the pixels that a kernel's position reads, and the outputs that they go into.

    Args:
        side: The number of pixels.
        offset: The position's distance from the kernel's centre. Beyond the image, both are empty.
    """
    first, last = max(0, offset), max(0, min(side, side + offset))
    return slice(first, max(first, last)), slice(first - offset, max(first, last) - offset)


def _separable_applies(
    inputs: Any, depthwise_kernel: Any, pointwise_kernel: Any, *others: Any, **options: Any
) -> bool:
    del pointwise_kernel
    return _applies(inputs, depthwise_kernel, *others, **options)


def _convolve_separably(
    inputs: Tensor,
    depthwise_kernel: Tensor | Variable,
    pointwise_kernel: Tensor | Variable,
    *others: Any,
    **options: Any,
) -> Tensor:
    import tensorflow as tf

    depths = _convolve(inputs, depthwise_kernel, *others, **options)
    return tf.nn.conv2d(depths, pointwise_kernel, 1, "VALID")
