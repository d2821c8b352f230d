"""The product by one matrix that a loop takes again and again, with few rows each time."""

from __future__ import annotations

from nano_init.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["LoopProduct"]

# Of 512 units LSTM and GRU gain by the turned product, of 256 they lose (oneDNN 3.7 with AMX).
_FEWEST_ELEMENTS = 2**19
# Of 128 rows both are as fast for 512 units.
_MOST_ROWS = 128


@frozen
class LoopProduct:
    """Multiplies rows by a matrix that does not change.

    oneDNN rearranges the second operand of a product in bfloat16 at each call (the VNNI layout,
    src/cpu/x64/matmul/brgemm_matmul_copy_utils.cpp). For few rows and a large matrix that takes
    longer than the product; so the rows become the second operand then, and the result is turned.

    Args:
        operand: The matrix as the product takes it, `(columns, rows)` if it comes first.
        is_first: Whether it is the first operand.
    """

    operand: Any
    is_first: bool

    @classmethod
    def of(cls, matrix: Any, batch: int | None, *, turned: bool = False) -> LoopProduct:
        """Return the product by a matrix, or by its transpose.

        Args:
            matrix: Float32 or bfloat16 of known shape `(rows, columns)`.
            batch: How many rows are multiplied at a time; None if that is not known.
            turned: Whether to multiply by the transposed matrix.
        """
        import tensorflow as tf

        size = matrix.shape.num_elements()
        is_small = matrix.dtype != tf.bfloat16 or size < _FEWEST_ELEMENTS
        is_first = not is_small and (batch is None or batch <= _MOST_ROWS)
        # Turned once: a product with a turned operand is up to three times as slow.
        return cls(matrix if turned == is_first else tf.transpose(matrix), is_first)

    @property
    def rows(self) -> int:
        """Return how many columns the multiplied rows have."""
        return int(self.operand.shape[1 if self.is_first else 0])

    @property
    def dtype(self) -> Any:
        """Return the dtype of the matrix and of the product."""
        return self.operand.dtype

    def __call__(self, rows: Any) -> Any:
        """Return the product of rows `(count, rows of the matrix)` and the matrix."""
        import tensorflow as tf

        if self.is_first:
            return tf.transpose(tf.matmul(self.operand, rows, transpose_b=True))
        return tf.matmul(rows, self.operand)
