"""The gradient by a convolution's kernel, one matrix product for each position in the kernel.

This is for tiny images with many channels: the pixels that a position meets are copied for its
product, which takes longer than oneDNN's kernel unless there are few pixels for so many channels.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.processor import (
    has_amx_kernels,
    is_slow_in_bfloat16,
    uses_onednn,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nano_init.keras_patch.faster.kernel_gradient_rows import Geometry
    from nano_init.keras_patch.tensor_types import Tensor

__all__ = ["gradient_by_positions", "pays_by_positions", "take_pixels"]

# Channels per pixel of the outputs from which products pay off, without and with strides.
_BFLOAT16_WITH_AMX = (1.5, 1.0)
_BFLOAT16 = (8.0, 2.0)
_FLOAT32 = (32.0, 16.0)


def pays_by_positions(
    outputs: Sequence[int], channels: int, filters: int, stride: int, dtype: str
) -> bool:
    """Say whether products for each position are faster than oneDNN's kernel.

    oneDNN (3.7, `brgconv_bwd_w`) computes tiny images and strides at a part of the speed of a
    product. By medians of 5 to 7 alternating trials of processor time on an Intel Xeon with AMX,
    kernels of 3x3 to 5x5 in bfloat16 are 1.1 to 6.2 times as fast from where they are taken on,
    with AMX switched off (`ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16`) 1.0 to 1.9 times, and 1.2 to 1.7
    times in float32.

    Args:
        outputs: The height and width of an output.
        channels: Of the inputs.
        filters: The channels of the outputs.
        stride: The pixels that the kernel moves on by.
        dtype: Of the inputs, "float32" or "bfloat16".
    """
    least = _channels_a_pixel(stride, dtype) * outputs[0] * outputs[1]
    return min(channels, filters) >= least and uses_onednn()


def _channels_a_pixel(stride: int, dtype: str) -> float:
    if dtype == "float32" or is_slow_in_bfloat16():
        plain, strided = _FLOAT32
    else:
        plain, strided = _BFLOAT16_WITH_AMX if has_amx_kernels() else _BFLOAT16
    return plain if stride == 1 else strided


def gradient_by_positions(
    inputs: Tensor, upstream: Tensor, kernel_size: Sequence[int], geometry: Geometry
) -> Tensor:
    """Return the gradient of a loss by the kernel of a convolution.

    Args:
        inputs: `[batch, height, width, channels]`; only the batch may be unknown while tracing.
        upstream: The gradient by the output, `[batch, rows, columns, filters]`, of the same dtype.
        kernel_size: (height, width).
        geometry: How the convolution moves; both strides are the same, and it is not dilated.

    Returns:
        `[height, width, channels, filters]`.
    """
    import tensorflow as tf

    stride, channels, filters = geometry.strides[0], inputs.shape[-1], upstream.shape[-1]
    rows, columns = upstream.shape[1:3]
    lines = _lines(inputs, (rows, columns), kernel_size, geometry)
    gradients = tf.reshape(upstream, [-1, filters])
    products = []
    for i in range(kernel_size[0]):
        below = lines[i % stride][:, i // stride : i // stride + rows]
        for j in range(0, kernel_size[1], stride):
            # Neighbouring pixels are met by as many positions, which share a product.
            width = min(stride, kernel_size[1] - j) * channels
            met = below[:, :, j // stride : j // stride + columns, :width]
            pixels = tf.reshape(met, [-1, width])
            products.append(tf.matmul(pixels, gradients, transpose_a=True))
    return tf.reshape(tf.concat(products, 0), [*kernel_size, channels, filters])


def _lines(
    inputs: Tensor, outputs: Sequence[int], kernel_size: Sequence[int], geometry: Geometry
) -> list[Tensor]:
    """Return every line of padded images, or every second, third... line for each stride down.

    Each is `[batch, lines, blocks, stride * channels]`, where a block is as many neighbouring
    pixels as the kernel moves on by.
    """
    import tensorflow as tf

    stride, zeros, sizes = geometry.strides[0], [], []
    for pixels, count, size in zip(inputs.shape[1:3], outputs, kernel_size, strict=True):
        # As in tensorflow/core/framework/kernel_shape_util.cc, `GetWindowedOutputSizeVerbose`.
        reach = (count - 1) * stride + size
        before = max(reach - pixels, 0) // 2 if geometry.padding == "SAME" else 0
        blocks = -(-max(reach, before + pixels) // stride)
        zeros.append([before, blocks * stride - before - pixels])
        sizes.append(blocks)
    padded = tf.pad(inputs, [[0, 0], *zeros, [0, 0]]) if any(map(any, zeros)) else inputs
    if stride == 1:
        return [padded]
    grid = tf.reshape(padded, [-1, sizes[0], stride, sizes[1], stride * inputs.shape[-1]])
    lines: list[Tensor] = tf.unstack(grid, axis=2)
    return lines


def take_pixels(images: Tensor, stride: int) -> Tensor:
    """Return the first of every `stride` pixels along both axes of images.

    They are taken by average pooling over one pixel, which oneDNN runs at the speed of memory.
    TensorFlow's own slices run at a tenth of that in bfloat16.
    """
    import tensorflow as tf

    return images if stride == 1 else tf.nn.avg_pool2d(images, 1, stride, "VALID")
