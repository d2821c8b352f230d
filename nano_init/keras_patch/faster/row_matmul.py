"""Treat tensors of any rank as rows, which one matrix product multiplies or sums.

The forward product and both gradients are one product each, over all rows at once.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nano_init.keras_patch.tensor_types import Tensor, TensorShape

__all__ = ["multiply_rows", "sum_rows"]


def multiply_rows(inputs: Tensor, matrix: Tensor, columns: Sequence[int], axes: int = 1) -> Tensor:
    """Return the product of the rows of a tensor and a matrix.

    Args:
        inputs: `[..., *summed]`; the sizes of the summed axes are known while tracing.
        matrix: `[size of the summed axes, size of the columns]`, of the inputs' dtype.
        columns: The shape of the matrix's columns in the result.
        axes: The number of the inputs' last axes that are summed.

    Returns:
        `[..., *columns]`.
    """
    import tensorflow as tf

    product = tf.matmul(tf.reshape(inputs, [-1, matrix.shape[0]]), matrix)
    leading = inputs.shape[:-axes]
    result = tf.reshape(product, [*_sizes(inputs, leading), *columns])
    result.set_shape([*leading, *columns])
    return result


def sum_rows(tensor: Tensor) -> Tensor:
    """Return the sum over all axes except the last, whose size is known while tracing.

    A product with ones is up to twice as fast as TensorFlow's `BiasAddGrad`, and as accurate in
    bfloat16, because oneDNN adds in float32.
    """
    import tensorflow as tf

    rows = tf.reshape(tensor, [-1, tensor.shape[-1]])
    ones = tf.ones([1, tf.shape(rows)[0]], rows.dtype)
    return tf.reshape(tf.matmul(ones, rows), [-1])


def _sizes(inputs: Tensor, leading: TensorShape) -> list[int | Tensor]:
    import tensorflow as tf

    if list(leading).count(None) <= 1:
        return [-1 if size is None else size for size in leading]
    dynamic = tf.shape(inputs)
    return [dynamic[axis] if size is None else size for axis, size in enumerate(leading)]
