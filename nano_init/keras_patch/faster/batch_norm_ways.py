"""Two ways to normalize a batch: TensorFlow's fused kernel, and single ops.

The fused kernel, `FusedBatchNormV3`, reads bfloat16 or float32, keeps its statistics in float32
and has a fused gradient. It returns the unbiased variance (tensorflow/core/kernels/
fused_batch_norm_op.cc, `rest_size_adjust`, which is n / max(n - 1, 1)); that factor is divided out.

The ops follow Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by
Reducing Internal Covariate Shift", 2015: the gradient in closed form takes half the ops of Keras's
formula, differentiated op by op. An empty batch makes the statistics NaN in both ways.
"""

from __future__ import annotations

import enum
import functools

from nano_init.keras_patch.faster.recording import (
    is_recorded,
    may_be_differentiated,
    record_with_gradient,
)
from nano_init.keras_patch.faster.traced_branches import run_either, traced_apart
from nano_init.keras_patch.faster.xla_fusion import is_compiled_by_xla, is_in_fit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nano_init.keras_patch.tensor_types import DType, Tensor, TensorShape

__all__ = ["FEWEST_ELEMENTS", "Way", "fused_inference", "normalize_batch", "way_for"]

# The kernel waits for its threads, which takes 0.2 ms in both directions together. Ops take as long
# for this number of elements: 0.62 ms instead of 0.61 for 512x256, and 0.33 instead of 0.50 for
# 32x6x6x64 (oneDNN 3.7, Zen 5, 2 hardware threads, float32, medians of 7 alternating trials).
FEWEST_ELEMENTS = 2**17
# oneDNN has vectors for multiples of 4 channels. For others it takes a kernel that strides over the
# channels: 106 ms instead of 11 for 2,708x1,433
# (oneDNN 3.7, src/cpu/ncsp_batch_normalization.cpp).
_VECTOR = 4
_SUPPOSED_BATCH = 32


class Way(enum.Enum):
    """A way to normalize a batch; `EITHER` decides in the graph."""

    KERNEL = enum.auto()
    OPS = enum.auto()
    EITHER = enum.auto()


def way_for(shape: TensorShape, *, is_training: bool) -> Way:
    """Return the fastest way for a shape.

    Args:
        shape: The shape of the inputs, with a known number of channels.
        is_training: Whether the statistics are those of the batch.
    """
    if is_compiled_by_xla():
        return Way.KERNEL
    if shape[-1] % _VECTOR:
        return Way.OPS
    in_a_row = shape[1:].num_elements()
    if in_a_row is None:  # images of any size
        return Way.KERNEL
    may_be_small = in_a_row * _VECTOR < FEWEST_ELEMENTS
    # `tf.gradients`, without a tape, would have to differentiate the choice.
    if shape[0] is None and is_training and may_be_small and is_in_fit() and is_recorded():
        return Way.EITHER
    count = _SUPPOSED_BATCH if shape[0] is None else shape[0]
    return Way.KERNEL if count * in_a_row >= FEWEST_ELEMENTS else Way.OPS


def normalize_batch(
    inputs: Tensor, scale: Tensor, offset: Tensor, epsilon: float, way: Way
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalize a batch by its own statistics.

    Args:
        inputs: float32 or bfloat16 of rank 4, channels last; of rank 2 for `OPS` and `EITHER`.
        scale: float32, one per channel.
        offset: float32, one per channel.
        epsilon: A constant to add to the variance.
        way: How to compute it.

    Returns:
        The normalized inputs in their dtype, and the mean and the biased variance of each channel
        in float32, which have no gradient.
    """
    run = {Way.KERNEL: _by_kernel, Way.OPS: _by_ops, Way.EITHER: _by_either}[way]
    return run(inputs, scale, offset, epsilon)


def _by_kernel(
    inputs: Tensor, scale: Tensor, offset: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    def run(*given: Tensor) -> tuple[Tensor, ...]:
        result = _fused(given[0], given[1], given[2], epsilon)
        variance = result.batch_variance * _biased_share(inputs)
        return (result.y, result.batch_mean, variance, *_kept_of(result))

    def gradient(upstream: Tensor) -> Any:
        if may_be_differentiated():
            return _backward_of_keras(upstream, inputs, scale, offset, epsilon)
        return _fused_gradient(upstream, inputs, scale, kept, epsilon)

    outputs, mean, variance, *kept = record_with_gradient(run, (inputs, scale, offset), gradient)
    return outputs, mean, variance


def _by_ops(
    inputs: Tensor, scale: Tensor, offset: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    def gradient(upstream: Tensor) -> Any:
        if may_be_differentiated():
            return _backward_of_keras(upstream, inputs, scale, offset, epsilon)
        return _backward_by_ops(upstream, inputs, scale, mean, root)

    run = functools.partial(_forward_by_ops, epsilon=epsilon)
    outputs, mean, variance, root = record_with_gradient(run, (inputs, scale, offset), gradient)
    return outputs, mean, variance


def _by_either(
    inputs: Tensor, scale: Tensor, offset: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    import tensorflow as tf

    forward, backward = _traced(inputs.dtype, epsilon)
    is_large = tf.size(inputs) >= FEWEST_ELEMENTS

    def run(*given: Tensor) -> tuple[Tensor, ...]:
        outputs, *rest = run_either(is_large, forward[0], forward[1], given, is_inlined=True)
        return (tf.ensure_shape(outputs, inputs.shape), *rest)

    def gradient(upstream: Tensor) -> Any:
        if may_be_differentiated():
            return _backward_of_keras(upstream, inputs, scale, offset, epsilon)
        given = (upstream, inputs, scale, *kept)
        return run_either(is_large, backward[0], backward[1], given, is_inlined=True)

    outputs, mean, variance, *kept = record_with_gradient(run, (inputs, scale, offset), gradient)
    return outputs, mean, variance


@functools.cache
def _traced(dtype: DType, epsilon: float) -> tuple[Any, Any]:
    """Return pairs of functions for rank 2, the kernel's and that of ops: forward and backward."""
    import tensorflow as tf

    rows, channels = tf.TensorSpec([None, None], dtype), tf.TensorSpec([None])
    pairs = []
    for functions, specs in (
        ((_forward_of_kernel, _forward_with_kept), (rows, channels, channels)),
        ((_backward_of_kernel, _backward_of_kept), (rows, rows, *[channels] * 4)),
    ):
        known = (functools.partial(each, epsilon=epsilon) for each in functions)
        traced = (traced_apart(tf.function(each, autograph=False), *specs) for each in known)
        pairs.append(tuple(traced))
    return pairs[0], pairs[1]


def _forward_of_kernel(
    inputs: Tensor, scale: Tensor, offset: Tensor, *, epsilon: float
) -> tuple[Tensor, ...]:
    """Return what `normalize_batch` returns, and three tensors to keep for the gradient."""
    result = _fused(inputs[:, None, None], scale, offset, epsilon)
    variance = result.batch_variance * _biased_share(inputs)
    return (result.y[:, 0, 0], result.batch_mean, variance, *_kept_of(result))


def _backward_of_kernel(
    upstream: Tensor, inputs: Tensor, scale: Tensor, *kept: Tensor, epsilon: float
) -> tuple[Tensor, ...]:
    images = upstream[:, None, None], inputs[:, None, None]
    by_inputs, *rest = _fused_gradient(*images, scale, kept, epsilon)
    return (by_inputs[:, 0, 0], *rest)


def _forward_with_kept(
    inputs: Tensor, scale: Tensor, offset: Tensor, *, epsilon: float
) -> tuple[Tensor, ...]:
    import tensorflow as tf

    outputs, mean, variance, root = _forward_by_ops(inputs, scale, offset, epsilon)
    return outputs, mean, variance, mean, root, tf.zeros([0])


def _backward_of_kept(
    upstream: Tensor, inputs: Tensor, scale: Tensor, *kept: Tensor, epsilon: float
) -> tuple[Tensor, ...]:
    del epsilon  # It is part of the root.
    return _backward_by_ops(upstream, inputs, scale, kept[0], kept[1])


def _forward_by_ops(
    inputs: Tensor, scale: Tensor, offset: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return outputs, mean, biased variance, and the inverse of the standard deviation."""
    import tensorflow as tf

    wide, rows = tf.cast(inputs, tf.float32), _axes_of_rows(inputs)
    mean = tf.reduce_mean(wide, rows)
    variance = tf.reduce_mean(tf.math.squared_difference(wide, mean), rows)
    root = tf.math.rsqrt(variance + epsilon)
    factor = scale * root
    outputs = wide * factor + (offset - mean * factor)
    return tf.cast(outputs, inputs.dtype), mean, variance, root


def _backward_by_ops(
    upstream: Tensor, inputs: Tensor, scale: Tensor, mean: Tensor, root: Tensor
) -> tuple[Tensor, ...]:
    """Return the gradients by inputs, scale and offset: section 3 of the paper, simplified."""
    import tensorflow as tf

    wide, rows = tf.cast(inputs, tf.float32), _axes_of_rows(inputs)
    upstream = tf.cast(upstream, tf.float32)
    count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], tf.float32)
    by_offset = tf.reduce_sum(upstream, rows)
    by_scale = (tf.reduce_sum(upstream * wide, rows) - mean * by_offset) * root
    factor = scale * root
    slope = factor * root * by_scale / count
    by_inputs = upstream * factor - (wide * slope + (factor * by_offset / count - mean * slope))
    return tf.cast(by_inputs, inputs.dtype), by_scale, by_offset


def _backward_of_keras(
    upstream: Tensor, inputs: Tensor, scale: Tensor, offset: Tensor, epsilon: float
) -> Any:
    """Return the same as Keras computes it, to be differentiated again.

    TensorFlow's `moments` holds the mean in the variance constant, which has no effect on first
    derivatives, but changes second ones.
    """
    import tensorflow as tf

    tensors = inputs, scale, offset
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        wide = tf.cast(inputs, tf.float32)
        mean, variance = tf.nn.moments(wide, _axes_of_rows(inputs))
        outputs = tf.nn.batch_normalization(wide, mean, variance, offset, scale, epsilon)
    return tape.gradient(outputs, tensors, tf.cast(upstream, tf.float32))


def _axes_of_rows(inputs: Tensor) -> list[int]:
    return list(range(inputs.shape.rank - 1))


def fused_inference(
    inputs: Tensor,
    scale: Tensor,
    offset: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: float,
) -> Tensor:
    """Normalize by given statistics, by the fused kernel; return the inputs' dtype.

    Args:
        inputs: As for `normalize_batch`, of rank 4.
        scale: As for `normalize_batch`.
        offset: As for `normalize_batch`.
        mean: float32, one per channel.
        variance: float32, one per channel.
        epsilon: As for `normalize_batch`.
    """
    return _fused(inputs, scale, offset, epsilon, (mean, variance)).y


def _fused(
    inputs: Tensor,
    scale: Tensor,
    offset: Tensor,
    epsilon: float,
    given: tuple[Tensor, Tensor] | None = None,
) -> Any:
    import tensorflow as tf

    # The kernel takes no statistics when it computes them itself.
    mean, variance = given or (tf.constant([], tf.float32),) * 2
    return tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=scale,
        offset=offset,
        mean=mean,
        variance=variance,
        epsilon=epsilon,
        exponential_avg_factor=1.0,
        data_format="NHWC",
        is_training=given is None,
    )


def _kept_of(result: Any) -> tuple[Tensor, ...]:
    return result.reserve_space_1, result.reserve_space_2, result.reserve_space_3


def _fused_gradient(
    upstream: Tensor, inputs: Tensor, scale: Tensor, kept: tuple[Tensor, ...], epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    import tensorflow as tf

    result = tf.raw_ops.FusedBatchNormGradV3(
        y_backprop=upstream,
        x=inputs,
        scale=scale,
        reserve_space_1=kept[0],
        reserve_space_2=kept[1],
        reserve_space_3=kept[2],
        epsilon=epsilon,
        data_format="NHWC",
        is_training=True,
    )
    return result.x_backprop, result.scale_backprop, result.offset_backprop


def _biased_share(inputs: Tensor) -> Tensor:
    import tensorflow as tf

    count = tf.cast(tf.size(inputs, tf.int64) // tf.shape(inputs, tf.int64)[-1], tf.float32)
    one = tf.constant(1.0)
    return tf.maximum(count - one, one) / count
