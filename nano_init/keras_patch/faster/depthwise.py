"""Strided depthwise convolutions in bfloat16 with their input gradient in float32.

oneDNN has no optimized bfloat16 kernel for the input gradient of a depthwise convolution with
strides and falls back to its reference implementation, which takes 16 to 60 times as long as
the float32 kernel (oneDNN 3.7, Zen 4). The output and the kernel's gradient stay in bfloat16.
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


def depthwise_replacements() -> Iterator[Replacement]:
    """Yield the replacements for strided depthwise convolutions, also in separable ones."""
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
    del padding
    import tensorflow as tf
    from keras.src import backend

    return (
        isinstance(inputs, tf.Tensor)
        and inputs.dtype == tf.bfloat16
        and tf.is_tensor(kernel)
        and kernel.dtype == tf.bfloat16
        and inputs.shape.rank == 4
        and inputs.shape[-1] == kernel.shape[2]
        and backend.standardize_data_format(data_format) == "channels_last"
        and _stride(strides) > 1
        and dilation_rate in (1, (1, 1))
    )


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

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def convolve(inputs: Tensor, kernel: Tensor) -> Any:
        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            by_inputs = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(inputs),
                filter=tf.cast(kernel, tf.float32),
                out_backprop=tf.cast(upstream, tf.float32),
                **options,
            )
            by_kernel = tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
                input=inputs, filter_sizes=tf.shape(kernel), out_backprop=upstream, **options
            )
            return tf.cast(by_inputs, inputs.dtype), by_kernel

        return tf.raw_ops.DepthwiseConv2dNative(input=inputs, filter=kernel, **options), gradient

    return convolve(inputs, tf.convert_to_tensor(kernel))


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
