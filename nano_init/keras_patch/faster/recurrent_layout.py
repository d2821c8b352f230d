"""The memory layout of a recurrent loop's tensors: `(units, batch)` or `(batch, units)`.

With the units first, the weights are the first operand of every product. oneDNN reorders the second
operand at each call (the VNNI layout of bfloat16,
src/cpu/x64/matmul/brgemm_matmul_copy_utils.cpp). For the weights of a loop that takes longer than
their product with a few rows. Also, a gate is then a slice of a product that needs no copy. With
the batch first, a float32 product takes half the time for fewer rows than an AVX-512 vector has
elements.
"""

from __future__ import annotations

from nano_init.frozen import frozen
from nano_init.keras_patch.faster.processor import has_amx_kernels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nano_init.keras_patch.tensor_types import DType, Tensor

__all__ = ["Layout", "size_of"]

_FEWEST_ROWS = 16
# TensorFlow runs a product in one thread if its matrices take less than 1.01 times the L2 cache,
# which is 2 MB in processors with AMX (tensorflow/core/kernels/mkl/mkl_matmul_ops_common.h,
# `ExecuteSingleThreadedGemm`).
_BYTES_FOR_TWO_THREADS = 1.01 * 2**21
_PARTS = (2, 4, 8)
# Half a batch. With more columns a second thread gains as much as it costs.
_MOST_COLUMNS, _SUPPOSED_COLUMNS = 48, 16


@frozen
class Layout:
    """One of the two layouts; a product's gates are concatenated along the units.

    Args:
        units_first: Whether a step's tensors are `(units, batch)`.
    """

    units_first: bool

    @classmethod
    def of(cls, dtype: DType, batch: int | None) -> Layout:
        """Return the faster layout.

        Args:
            dtype: The compute dtype.
            batch: The number of rows in a step; None if unknown.
        """
        import tensorflow as tf

        return cls(dtype == tf.bfloat16 or (batch is not None and batch >= _FEWEST_ROWS))

    @property
    def axis(self) -> int:
        """Return the axis of the units."""
        return 0 if self.units_first else 1

    def turned(self, tensor: Tensor) -> Tensor:
        """Convert a matrix of `(batch, units)` to this layout, or back."""
        import tensorflow as tf

        return tf.transpose(tensor) if self.units_first else tensor

    def batch_first(self, outputs: Tensor) -> Tensor:
        """Return the outputs of all steps as `(batch, time, units)`."""
        import tensorflow as tf

        return tf.transpose(outputs, [2, 0, 1] if self.units_first else [1, 0, 2])

    def spread(self, vector: Tensor, like: Tensor) -> Tensor:
        """Return a vector along the units, repeated for each row of a step's tensor.

        Args:
            vector: A tensor of one axis.
            like: The tensor with that number of rows.
        """
        import tensorflow as tf

        count = size_of(like, 1 - self.axis)
        repeats = [1, count] if self.units_first else [count, 1]
        return tf.tile(tf.expand_dims(vector, 1 - self.axis), repeats)

    def operand(self, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return weights in the form for `multiply`.

        Args:
            matrix: `(features, units)`.
            bias: None, or the bias to add to the product: `(units)`. It becomes the weights of one
                more feature.
        """
        import tensorflow as tf

        operand = self.turned(matrix)
        if bias is None:
            return operand
        return tf.concat([operand, tf.expand_dims(bias, 1 - self.axis)], 1 - self.axis)

    def multiply(self, operand: Tensor, tensor: Tensor) -> Tensor:
        """Return the product of weights and a tensor in this layout."""
        import tensorflow as tf

        return tf.matmul(operand, tensor) if self.units_first else tf.matmul(tensor, operand)

    def multiplier(self, operand: Tensor, columns: int | None) -> Callable[[Tensor], Tensor]:
        """Return a function that multiplies weights and a step's tensor, as `multiply` does.

        With AMX, a product of few columns in bfloat16 takes as long as it takes to wake a second
        thread, which another loop keeps busy. There it is computed as several products of a part
        of the weights' rows each, which TensorFlow runs in one thread. By medians of 9 interleaved
        trials the loops of LSTMs with 512 to 1,024 units are 1.1 to 1.5 times as fast for 16 to 48
        columns. For 64 to 256 columns, and without AMX, they are 0.9 to 1.05 times as fast.

        Args:
            operand: The result of `operand`.
            columns: The rows of the batch in a step; None if unknown.
        """
        import tensorflow as tf

        parts = self._count_parts(operand, columns)
        if parts == 1:
            return lambda tensor: self.multiply(operand, tensor)
        rows = tf.split(operand, parts)
        return lambda tensor: tf.concat([tf.matmul(part, tensor) for part in rows], 0)

    def _count_parts(self, operand: Tensor, columns: int | None) -> int:
        import tensorflow as tf

        columns = _SUPPOSED_COLUMNS if columns is None else columns
        if (
            not self.units_first
            or operand.dtype != tf.bfloat16
            or columns > _MOST_COLUMNS
            or not has_amx_kernels()
        ):
            return 1
        rows, shared = operand.shape

        def fits(part: int) -> bool:
            elements = part * columns + shared * (part + columns)
            return bool(operand.dtype.size * elements < _BYTES_FOR_TWO_THREADS)

        if fits(rows):
            return 1
        return next((parts for parts in _PARTS if rows % parts == 0 and fits(rows // parts)), 1)

    def project(self, operand: Tensor, steps: Tensor) -> Tensor:
        """Return the product of weights and the inputs of all steps, time first.

        Args:
            operand: The result of `operand`, with as many features as the inputs.
            steps: `(time, batch, features)`.
        """
        import tensorflow as tf

        if self.units_first:
            # Of rank 3: TensorFlow would fold the transposition of a rank-2 operand into the
            # product, which then takes twice as long.
            return tf.matmul(operand[None], steps, transpose_b=True)
        product = tf.matmul(tf.reshape(steps, [-1, steps.shape[2]]), operand)
        return tf.reshape(product, [size_of(steps), size_of(steps, 1), operand.shape[1]])

    def joined(self, stacked: Tensor) -> Tensor:
        """Return `(time, *step's tensor)` as one such tensor with the rows of all steps."""
        import tensorflow as tf

        units = stacked.shape[1 + self.axis]
        count = -1 if None in stacked.shape else stacked.shape.num_elements() // units
        if self.units_first:
            return tf.reshape(tf.transpose(stacked, [1, 0, 2]), [units, count])
        return tf.reshape(stacked, [count, units])

    def rows(self, stacked: Tensor) -> Tensor:
        """Return `(time, *step's tensor)` as the rows of all steps, `(time * batch, units)`."""
        import tensorflow as tf

        units = stacked.shape[1 + self.axis]
        turned = tf.transpose(stacked, [0, 2, 1]) if self.units_first else stacked
        return tf.reshape(turned, [-1, units])

    def d_operand(self, d_product: Tensor, rows: Tensor) -> Tensor:
        """Return the gradient by an operand.

        Args:
            d_product: The gradient by its products, from `joined`.
            rows: The other factor, from `rows`.
        """
        import tensorflow as tf

        if self.units_first:
            return tf.matmul(d_product, rows)
        return tf.matmul(rows, d_product, transpose_a=True)

    def summed(self, d_product: Tensor) -> Tensor:
        """Return the sum over the rows of a result of `joined`; oneDNN adds in float32."""
        import tensorflow as tf

        count = size_of(d_product, 1 - self.axis)
        ones = tf.ones([count, 1] if self.units_first else [1, count], d_product.dtype)
        return tf.squeeze(self.multiply(d_product, ones), 1 - self.axis)


def size_of(tensor: Tensor, axis: int = 0) -> int | Tensor:
    """Return the size of an axis: a number if known while tracing, otherwise a tensor."""
    import tensorflow as tf

    return tf.shape(tensor)[axis] if tensor.shape[axis] is None else tensor.shape[axis]
