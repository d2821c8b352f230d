"""Sparse gradients with the slices of repeated ids summed, into distinct rows or a dense tensor."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nano_init.keras_patch.tensor_types import IndexedSlices, Tensor, TensorShape

__all__ = ["is_distinct", "mark_distinct", "sum_into_dense", "sum_repeated_ids"]

# An attribute of ids that are distinct.
_MARK = "_nano_init_is_distinct"


def sum_repeated_ids(gradient: Tensor | IndexedSlices | None) -> Any:
    """Return a sparse gradient with one slice per row; return any other unchanged.

    Args:
        gradient: A dense tensor, None, or `tf.IndexedSlices` with values of shape
            [ids, ...] and indices of shape [ids].
    """
    import tensorflow as tf

    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    if is_distinct(gradient):
        return gradient
    rows, places = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, places, tf.size(rows))
    mark_distinct(rows)
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def mark_distinct(ids: Tensor) -> None:
    """Note that ids, of shape [ids], are distinct."""
    setattr(ids, _MARK, True)


def is_distinct(gradient: IndexedSlices) -> bool:
    """Say whether the slices of repeated ids were summed; clipping and casts keep the ids."""
    return getattr(gradient.indices, _MARK, False)


def sum_into_dense(gradient: IndexedSlices, shape: TensorShape) -> Tensor:
    """Return a sparse gradient as the equal dense gradient, with repeated ids summed.

    Args:
        gradient: `tf.IndexedSlices` with values of shape [ids, ...] and indices of shape [ids].
        shape: The variable's shape, [rows, ...], known while tracing.
    """
    import tensorflow as tf

    dense = tf.math.unsorted_segment_sum(gradient.values, gradient.indices, shape[0])
    return tf.ensure_shape(dense, shape)
