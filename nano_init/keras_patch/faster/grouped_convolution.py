"""Convolutions with groups by oneDNN's kernels.

Keras compiles a convolution with groups by XLA on a CPU, because Eigen has no gradients of it
(keras/src/backend/tensorflow/nn.py, `conv`). XLA's is a plain loop: output and gradients of
8x24x24 with 128 channels in 32 groups and a 3x3 kernel take 1,596 ms, and 4.6 ms by oneDNN, which
TensorFlow calls for them where oneDNN is switched on
(tensorflow/core/kernels/mkl/mkl_conv_grad_filter_ops.cc, `is_grouped_convolution`). One group per
channel is a depthwise convolution.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fallback import with_faster_path
from nano_init.keras_patch.faster.processor import has_onednn_kernels
from nano_init.keras_patch.faster.xla_fusion import is_compiled_by_xla
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Tensor, Variable

__all__ = ["grouped_convolution_replacements"]


def grouped_convolution_replacements() -> Iterator[Replacement]:
    """Yield the replacement of Keras's convolution, for inputs with groups of channels."""
    from keras.src.backend.tensorflow import nn

    faster = with_faster_path("grouped_convolution", vars(nn)["conv"], _applies, _convolve)
    yield Replacement(nn, "conv", faster)


def _applies(
    inputs: Any,
    kernel: Any,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> bool:
    del strides
    import tensorflow as tf
    from keras.src import backend

    return (
        isinstance(inputs, tf.Tensor)
        and inputs.dtype in (tf.float32, tf.bfloat16)
        and tf.is_tensor(kernel)
        and kernel.dtype == inputs.dtype
        and inputs.shape.rank in (3, 4)
        and len(kernel.shape) == inputs.shape.rank
        and _has_groups(inputs, kernel)
        and backend.standardize_data_format(data_format) == "channels_last"
        and padding.lower() in ("same", "valid")
        and _fits(inputs, kernel, padding, dilation_rate)
        and has_onednn_kernels(inputs.dtype.name)
        and not is_compiled_by_xla()
    )


def _has_groups(inputs: Tensor, kernel: Tensor | Variable) -> bool:
    """Say whether the channels are those of several groups of a kernel."""
    channels, (of_group, filters) = inputs.shape[-1], kernel.shape[-2:]
    return (
        channels is not None
        and channels != of_group
        and channels % of_group == 0
        and filters % (channels // of_group) == 0
    )


def _fits(inputs: Tensor, kernel: Tensor | Variable, padding: str, dilation_rate: Any) -> bool:
    """Say whether there is an output. Keras has an error for an empty one."""
    rank = len(kernel.shape) - 2
    dilations = _each(dilation_rate, rank)
    for side, size, dilation in zip(
        inputs.shape[1:-1], kernel.shape[:rank], dilations, strict=True
    ):
        least = 1 if padding.lower() == "same" else (size - 1) * dilation + 1
        if side is not None and side < least:
            return False
    return True


def _each(number: Any, rank: int) -> tuple[int, ...]:
    return (number,) * rank if isinstance(number, int) else tuple(number)


def _convolve(
    inputs: Tensor,
    kernel: Tensor | Variable,
    strides: Any = 1,
    padding: str = "valid",
    data_format: str | None = None,
    dilation_rate: Any = 1,
) -> Tensor:
    del data_format
    import tensorflow as tf

    rank = inputs.shape.rank - 2
    if kernel.shape[-2] == 1 and _is_plain_depthwise(strides, dilation_rate, rank):
        return _convolve_depthwise(inputs, kernel, _each(strides, rank)[0], padding)
    return tf.nn.convolution(
        inputs, kernel, strides, padding.upper(), dilations=_each(dilation_rate, rank)
    )


def _is_plain_depthwise(strides: Any, dilation_rate: Any, rank: int) -> bool:
    return (
        rank == 2 and len(set(_each(strides, rank))) == 1 and set(_each(dilation_rate, rank)) == {1}
    )


def _convolve_depthwise(
    inputs: Tensor, kernel: Tensor | Variable, stride: int, padding: str
) -> Tensor:
    """Convolve each channel by Keras's function, which may have a faster path of its own."""
    import tensorflow as tf
    from keras.src.backend.tensorflow import nn

    height, width, _, filters = kernel.shape
    channels = inputs.shape[-1]
    shape = (height, width, channels, filters // channels)
    apart = tf.reshape(tf.convert_to_tensor(kernel), shape)
    return nn.depthwise_conv(inputs, apart, stride, padding, "channels_last")
