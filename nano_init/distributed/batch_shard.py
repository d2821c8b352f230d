"""A worker's shard of a batch: its rows, and their weight.

Each worker reads the same whole batches as its peers, and computes its own rows of each. If the
number of workers does not divide the batch size, the first workers get one more row. If there are
fewer rows than workers, empty shards are padded with the first row. Their gradients, metrics and
predictions have no weight, but every layer sees a batch that is not empty.
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
    """A batch has no rows that could be divided among workers."""


@dataclass(frozen=True)
class BatchShard:
    """One worker's rows of a batch.

    Args:
        index: The worker's index.
        workers: The number of workers that share the batch.
        total: The rows of the whole batch; a number if it is known while tracing, otherwise a
            scalar tensor.
        start: This worker's first row.
        count: The number of rows that it computes, at least 1.
        owned: The number of them that count: `count`, or 0 if the row is padding.
    """

    index: int
    workers: int
    total: int | Tensor
    start: int | Tensor
    count: int | Tensor
    owned: int | Tensor

    @property
    def weight(self) -> Tensor:
        """Return this worker's fraction of the batch as a float64 scalar."""
        import tensorflow as tf

        return tf.cast(self.owned, tf.float64) / tf.cast(self.total, tf.float64)

    @property
    def may_be_padding(self) -> bool:
        """Say whether the batch may have too few rows, as far as tracing knows."""
        return not isinstance(self.total, int) or self.total < self.workers

    def take(self, batch: Any) -> Any:
        """Return this worker's rows of a batch.

        Args:
            batch: A nest of tensors, including sparse and ragged ones, whose first dimension is
                the batch; scalars and None are returned unchanged.
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
        batch: A nest of tensors; the first that is not a scalar gives the number of rows.
        index: The worker's index.
        workers: The number of workers that share the batch.

    Raises:
        UnsharableDataError: The batch contains only scalars.
    """
    import tensorflow as tf
    from keras.src import tree

    leaves = [leaf for leaf in tree.flatten(batch) if leaf is not None and leaf.shape.rank != 0]
    if not leaves:
        raise UnsharableDataError(
            "the data cannot be divided among workers, because its elements are scalars; "
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
    """Say whether a step's output has one row per row of the shard, as far as tracing knows.

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
    """Return an output's rows at their places in the whole batch, with zeros elsewhere.

    Args:
        value: The output; its first dimension is the shard's rows.
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
    """Trace a step on a shard, or run it eagerly; affects this thread only.

    Yields:
        The variables that the step writes and that the workers must average.
    """
    before = current_shard(), getattr(_HERE, "written", [])
    _HERE.shard, _HERE.written = shard, []
    try:
        yield _HERE.written
    finally:
        _HERE.shard, _HERE.written = before


def note_written(variable: Variable) -> None:
    """Record that the step writes a variable; repeated writes count once."""
    if not any(variable is other for other in _HERE.written):
        _HERE.written.append(variable)


def current_shard() -> BatchShard | None:
    """Return the shard of the step that this thread computes, or None outside such a step."""
    return getattr(_HERE, "shard", None)
