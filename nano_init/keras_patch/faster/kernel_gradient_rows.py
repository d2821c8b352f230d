"""The gradient by a convolution's kernel, as one matrix product for each position in the kernel.

Images are laid out as rows, one for each pixel, and the gradient by the output likewise, with zeros
where there is no output. Then the pixels that one position of the kernel meets are all rows from
some number on. A slice of rows is a view, so no pixel is copied. With strides, a row holds as many
neighbouring pixels as the kernel moves on by, and one product serves as many positions.

Padding is shared: zeros to the left of a line of pixels are also to the right of the line before,
and those above an image are below the image before. Pixels are multiplied by zeros where the kernel
does not meet them, so one that is not finite makes its channel NaN in all positions.
"""

from __future__ import annotations

from nano_init.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nano_init.keras_patch.tensor_types import Tensor

__all__ = ["Geometry", "gradient_by_rows", "pays_by_rows"]

# The width of an image, for each column of the kernel, from which products over rows pay off.
_WIDTH_PER_COLUMN = 16
_LEAST_WIDTH = 32

# A sequence's length, for each step from the kernel's first position to its last: so many zeros are
# multiplied between two sequences.
_LENGTH_PER_REACH = 4

# Fewer channels leave the matrix product's registers empty.
_LEAST_CHANNELS = 32

# Slices of rows of so many float32 numbers are views (tensorflow/core/framework/ops_util.h,
# `IsDim0SliceAligned`, with 64 bytes).
_ALIGNED = 16


@frozen
class Geometry:
    """How a convolution moves over images.

    Args:
        strides: (down, right).
        padding: "SAME" or "VALID".
        dilations: (down, right); only one of strides and dilations may exceed 1.
    """

    strides: tuple[int, int]
    padding: str
    dilations: tuple[int, int] = (1, 1)


def pays_by_rows(
    kernel_size: Sequence[int],
    image: Sequence[int],
    channels: int,
    filters: int,
    dilations: Sequence[int] = (1, 1),
) -> bool:
    """Say whether products over rows are faster than oneDNN's kernel for AVX2, in float32.

    oneDNN's `jit:avx2` kernel (3.7, src/cpu/x64/jit_avx2_conv_kernel_f32.cpp) is the slower the
    more bytes a line of pixels has, and the faster the wider the convolution's kernel. Products are
    neither. Measured for 230 shapes by medians of 3 to 5 alternating trials, with oneDNN limited to
    AVX2 on a Zen 5: for the 138 shapes that this function takes, products are 0.96 to 1.87 times as
    fast for images (median 1.27) and 1.03 to 2.12 times for sequences (median 1.32).

    Args:
        kernel_size: (height, width), or (length,) for sequences.
        image: The sizes of an image likewise.
        channels: Of the inputs.
        filters: The channels of the outputs.
        dilations: As the kernel's size.
    """
    if max(dilations) > 1 and not _may_be_dilated(kernel_size, image, dilations):
        return False
    is_wide = image[-1] >= max(_LEAST_WIDTH, _WIDTH_PER_COLUMN * kernel_size[-1])
    # Copies instead of views are worth it only where each pixel is copied a few times.
    is_view = channels % _ALIGNED == filters % _ALIGNED == 0
    has_positions = max(kernel_size) > 1
    is_deep = min(channels, filters) >= _LEAST_CHANNELS
    return is_wide and has_positions and is_deep and (is_view or len(kernel_size) == 1)


def _may_be_dilated(
    kernel_size: Sequence[int], image: Sequence[int], dilations: Sequence[int]
) -> bool:
    """Say whether a dilated convolution is one over sequences that are long enough.

    TensorFlow splits the sequence for it. All gradients together are 1.1 to 1.5 times as fast with
    the kernel's by rows, for 6 shapes measured as above.
    """
    reach = (kernel_size[-1] - 1) * dilations[-1]
    return len(kernel_size) == 1 and image[-1] >= _LENGTH_PER_REACH * reach


@frozen
class _Axis:
    """How one axis of an image is laid out in blocks of as many pixels as the stride.

    Args:
        stride: The pixels in a block.
        before: Zeros before the pixels.
        after: Zeros after the pixels, up to the end of the last block.
        front: The block of the first output.
        blocks: The number of blocks.
        lead: The blocks by which the kernel's first position is before the output's block.
    """

    stride: int
    before: int
    after: int
    front: int
    blocks: int
    lead: int


def _lay_out(size: int, outputs: int, reach: int, stride: int, padding: str) -> _Axis:
    # As in tensorflow/core/framework/kernel_shape_util.cc, `GetWindowedOutputSizeVerbose`.
    missing = max((outputs - 1) * stride + reach + 1 - size, 0) if padding == "SAME" else 0
    lead, rest = divmod(missing // 2, stride)
    inner = max(-(-(size + rest) // stride), outputs)
    # Blocks before the pixels: as many as the kernel's first position needs, or its last position
    # beyond the end, which meets the zeros before the next line.
    front = max(lead, outputs + reach // stride - lead - inner)
    blocks = front + inner
    before = front * stride + rest
    return _Axis(stride, before, blocks * stride - before - size, front, blocks, lead)


def gradient_by_rows(
    inputs: Tensor,
    upstream: Tensor,
    kernel_size: Sequence[int],
    geometry: Geometry,
) -> Tensor:
    """Return the gradient of a loss by the kernel of a convolution.

    Args:
        inputs: `[batch, height, width, channels]`; only the batch may be unknown while tracing.
        upstream: The gradient by the output, `[batch, rows, columns, filters]`, of the same dtype.
        kernel_size: (height, width).
        geometry: How the convolution moves.

    Returns:
        `[height, width, channels, filters]`.
    """
    import tensorflow as tf

    channels, filters = inputs.shape[-1], upstream.shape[-1]
    steps = geometry.dilations
    down, right = axes = [
        _lay_out(size, outputs, (kernel - 1) * step, stride, geometry.padding)
        for size, outputs, kernel, step, stride in zip(
            inputs.shape[1:3],
            upstream.shape[1:3],
            kernel_size,
            steps,
            geometry.strides,
            strict=True,
        )
    ]
    lines = _lines_of(_padded(inputs, [[axis.before, axis.after] for axis in axes]), down, right)
    after = [a.blocks - a.front - n for a, n in zip(axes, upstream.shape[1:3], strict=True)]
    zeros = [[axis.front, end] for axis, end in zip(axes, after, strict=True)]
    gradients = tf.reshape(_padded(upstream, zeros), [-1, filters])
    products = []
    for i in range(kernel_size[0]):
        for j in range(0, kernel_size[1], right.stride):
            pixels = lines[i % down.stride]
            if j + right.stride > kernel_size[1]:
                pixels = pixels[:, : (kernel_size[1] - j) * channels]
            above = (steps[0] * i // down.stride - down.lead) * right.blocks
            shift = above + steps[1] * j // right.stride - right.lead
            products.append(_product(pixels, gradients, shift))
    return tf.reshape(tf.concat(products, 0), [*kernel_size, channels, filters])


def _padded(images: Tensor, zeros: Sequence[Sequence[int]]) -> Tensor:
    import tensorflow as tf

    return tf.pad(images, [[0, 0], *zeros, [0, 0]]) if any(map(any, zeros)) else images


def _lines_of(images: Tensor, down: _Axis, right: _Axis) -> list[Tensor]:
    """Return the rows of every line, or of every second, third... line for each stride down."""
    import tensorflow as tf

    width = right.stride * images.shape[-1]
    if down.stride == 1:
        return [tf.reshape(images, [-1, width])]
    lines = tf.unstack(tf.reshape(images, [-1, down.stride, right.blocks, width]), axis=1)
    return [tf.reshape(each, [-1, width]) for each in lines]


def _product(pixels: Tensor, gradients: Tensor, shift: int) -> Tensor:
    """Return the product of gradients and the pixels that are `shift` rows further on."""
    import tensorflow as tf

    if shift > 0:
        pixels, gradients = pixels[shift:], gradients[:-shift]
    elif shift < 0:
        pixels, gradients = pixels[:shift], gradients[-shift:]
    return tf.matmul(pixels, gradients, transpose_a=True)
