"""A worker's shard of a batch: which rows are its own, and what they weigh.

Each worker reads whole batches, the same as its peers, and computes its own rows of each. A
batch whose size the workers do not divide gives the first ones a row more. One with fewer
rows than workers pads the empty shards with its first row: their gradients, metrics and
predictions count for nothing, yet every layer sees a batch that is not empty.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass

from nano_init.errors import NanoError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Tensor, Variable

__all__ = [
    "BatchShard",
    "UnsharableDataError",
    "at_rows_of_batch",
    "computing_shard",
    "current_shard",
    "is_of_rows",
    "note_written",
    "shard_of",
]

_HERE = threading.local()


class UnsharableDataError(NanoError, ValueError):
    """A batch has no rows that workers could share."""


@dataclass(frozen=True)
class BatchShard:
    """One worker's rows of a batch.

    Args:
        index: The worker's number.
        workers: How many share the batch.
        total: Rows of the whole batch; a number where it is known while tracing, else a
            scalar tensor.
        start: The first row of this worker's.
        count: How many rows it computes, at least 1.
        owned: How many of them count: `count`, or 0 where the row is padding.
    """

    index: int
    workers: int
    total: int | Tensor
    start: int | Tensor
    count: int | Tensor
    owned: int | Tensor

    @property
    def weight(self) -> Tensor:
        """Return the part of the batch that this worker computes, as a float64 scalar."""
        import tensorflow as tf

        return tf.cast(self.owned, tf.float64) / tf.cast(self.total, tf.float64)

    @property
    def may_be_padding(self) -> bool:
        """Say whether the batch might have too few rows, as far as tracing knows."""
        return not isinstance(self.total, int) or self.total < self.workers

    def take(self, batch: Any) -> Any:
        """Return this worker's rows of a batch.

        Args:
            batch: A nest of tensors, sparse and ragged ones too, whose first dimension is the
                batch's; scalars and None stay as they are.
        """
        from keras.src import tree

        return tree.map_structure(self._take_rows, batch)

    def _take_rows(self, leaf: Any) -> Any:
        import tensorflow as tf

        if leaf is None or (leaf.shape.rank == 0):
            return leaf
        if isinstance(leaf, tf.SparseTensor):
            rest = tf.shape(leaf, tf.int64)[1:]
            start = tf.concat([[tf.cast(self.start, tf.int64)], tf.zeros_like(rest)], 0)
            size = tf.concat([[tf.cast(self.count, tf.int64)], rest], 0)
            return tf.sparse.slice(leaf, start, size)
        return leaf[self.start : self.start + self.count]


def shard_of(batch: Any, index: int, workers: int) -> BatchShard:
    """Return a worker's shard of a batch.

    Args:
        batch: A nest of tensors; the first one that is no scalar has the number of rows.
        index: The worker's number.
        workers: How many share the batch.

    Raises:
        UnsharableDataError: The batch holds scalars only.
    """
    import tensorflow as tf
    from keras.src import tree

    leaves = [leaf for leaf in tree.flatten(batch) if leaf is not None and leaf.shape.rank != 0]
    if not leaves:
        raise UnsharableDataError(
            "the data has no rows that workers could share: its elements are scalars; "
            "batch the data set"
        )
    static = leaves[0].shape[0] if leaves[0].shape.rank else None
    if static is not None:
        start, count = _rows(static, index, workers, min)
        owned, is_padding = count, count == 0
        return BatchShard(
            index,
            workers,
            static,
            0 if is_padding else start,
            1 if is_padding and static else count,
            owned,
        )
    total = tf.shape(leaves[0])[0] if tf.is_tensor(leaves[0]) else leaves[0].nrows()
    total = tf.cast(total, tf.int32)
    start, count = _rows(total, index, workers, tf.minimum)
    is_padding = tf.equal(count, 0)
    return BatchShard(
        index,
        workers,
        total,
        tf.where(is_padding, 0, start),
        tf.where(is_padding, tf.minimum(total, 1), count),
        count,
    )


def is_of_rows(value: Any, shard: BatchShard) -> bool:
    """Say whether a step's output has a row for each of the shard's, as far as tracing knows.

    Args:
        value: The output.
        shard: The shard that the step was computed on.
    """
    import tensorflow as tf

    if not isinstance(value, tf.Tensor) or not value.shape.rank:
        return False
    if not (value.dtype.is_floating or value.dtype.is_integer or value.dtype.is_bool):
        return False
    rows = value.shape[0]
    return bool(rows == shard.count) if isinstance(shard.count, int) else rows is None


def at_rows_of_batch(value: Tensor, shard: BatchShard) -> Tensor:
    """Return an output of the shard's rows at their places in the whole batch, else zeros.

    Args:
        value: The output, whose first dimension is the shard's rows.
        shard: The shard.
    """
    import tensorflow as tf

    own = tf.where(shard.owned > 0, value, tf.zeros_like(value))
    after = shard.total - shard.start - shard.count
    return tf.pad(own, [[shard.start, after], *([0, 0] for _ in value.shape[1:])])


def _rows(total: Any, index: int, workers: int, least: Any) -> tuple[Any, Any]:
    start = (total // workers) * index + least(total % workers, index)
    end = (total // workers) * (index + 1) + least(total % workers, index + 1)
    return start, end - start


@contextmanager
def computing_shard(shard: BatchShard) -> Iterator[list[Variable]]:
    """Let a step be traced, or run eagerly, on a shard; in this thread only.

    Yields:
        The variables that the step writes and that workers have to average.
    """
    before = current_shard(), getattr(_HERE, "written", [])
    _HERE.shard, _HERE.written = shard, []
    try:
        yield _HERE.written
    finally:
        _HERE.shard, _HERE.written = before


def note_written(variable: Variable) -> None:
    """Note that the step writes a variable, once however often it does."""
    if not any(variable is other for other in _HERE.written):
        _HERE.written.append(variable)


def current_shard() -> BatchShard | None:
    """Return the shard that this thread computes a step on, or None outside such a step."""
    return getattr(_HERE, "shard", None)
