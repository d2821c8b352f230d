"""Pad the rows that a sparse gradient names to few sizes, so that XLA can compute on them.

The number of distinct ids in a batch is known only at run time, and XLA compiles a kernel for each
size. Rows are padded to the next of a few sizes, at most an eighth apart. The sums of the padding
are zeros, and its results are sliced off, which copies nothing.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.xla_compiler import compiles
from nano_init.keras_patch.faster.xla_fusion import is_compiled_by_xla

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nano_init.keras_patch.tensor_types import IndexedSlices, Tensor, Variable

__all__ = ["is_worth_padding", "padded_sizes", "sum_into_padded_rows"]

_SMALLEST = 256
_LARGEST = 2**31
# The size above which one compiled pass is faster than a dozen of TensorFlow's own ops, measured:
# the ops are up to 2.6 times as fast for fewer elements, and 1.2 to 1.4 times for rows of 16.
_FEWEST_ELEMENTS = 2**18
_NARROWEST = 64


def is_worth_padding(gradient: IndexedSlices, variable: Variable) -> bool:
    """Say whether an update of the rows that a gradient names is faster with XLA.

    Args:
        gradient: `tf.IndexedSlices` with values of shape [ids, ...]. Not if the number of ids is
            unknown, or if the ids are already distinct.
        variable: The variable, of shape [rows, ...].
    """
    import tensorflow as tf

    from nano_init.keras_patch.sparse.row_sums import is_distinct

    if tf.executing_eagerly() or is_compiled_by_xla() or is_distinct(gradient):
        return False
    shape = gradient.values.shape
    if variable.dtype != "float32" or not shape.is_fully_defined():
        return False
    elements, ids = shape.num_elements(), shape[0]
    return elements >= max(_FEWEST_ELEMENTS, _NARROWEST * ids) and compiles()


def sum_into_padded_rows(gradient: IndexedSlices) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows that a sparse gradient names, padded with row 0, and their sums.

    Args:
        gradient: `tf.IndexedSlices` with values of shape [ids, ...] and indices of shape [ids].

    Returns:
        The rows with the padding, of shape [size]; the named rows, each once; and the sums of
        their slices in float32, of shape [size, ...], with zeros for the padding.
    """
    import tensorflow as tf

    named, places = tf.unique(gradient.indices)
    count, sizes = tf.size(named), tf.constant(padded_sizes())
    size = tf.gather(sizes, tf.searchsorted(sizes, count[tf.newaxis])[0])
    rows = tf.concat([named, tf.zeros([size - count], named.dtype)], 0)
    values = tf.cast(gradient.values, tf.float32)
    return rows, named, tf.math.unsorted_segment_sum(values, places, size)


def padded_sizes() -> list[int]:
    """Return the sizes that rows are padded to, in order."""
    sizes = [_SMALLEST]
    while (size := sizes[-1] + max(_SMALLEST, 2 ** (sizes[-1].bit_length() - 4))) < _LARGEST:
        sizes.append(size)
    return sizes
