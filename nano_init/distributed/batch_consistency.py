"""Checks that all workers make together: the same batches, the same end, the same moment."""

from __future__ import annotations

from nano_init.distributed.all_reduce import all_reduce, all_reduce_scalar
from nano_init.errors import NanoError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from nano_init.keras_patch.tensor_types import Dataset, DType, Tensor

__all__ = [
    "UnequalDataError",
    "agreed_batches",
    "all_reduce_consistent",
    "broadcast_bytes",
    "count_workers_where",
    "wait_for_all",
]

_DIFFERENT = (
    "nano-run: the workers got different batches, so their shards do not belong to one "
    "batch: use a fixed seed for shuffling and generating the data"
)


class UnequalDataError(NanoError, ValueError):
    """The workers have different data."""


def agreed_batches(dataset: Dataset, length: int | None) -> Any:
    """Return an iterable over a data set that ends on all workers together.

    A data set of unknown length may end on one worker earlier than on the others, which would
    then wait forever. So the workers agree before each batch.

    Args:
        dataset: The data set, of global batches.
        length: The number of batches, or None if unknown.

    Raises:
        UnequalDataError: Other workers' data sets have a different length.
    """
    import tensorflow as tf

    if length is not None:
        _check_length(length)
        return dataset
    is_endless = dataset.cardinality().numpy() == tf.data.INFINITE_CARDINALITY
    return dataset if is_endless else _AgreedBatches(dataset)


def _check_length(length: int) -> None:
    total = all_reduce_scalar(float(length))
    if total != length * _count_workers():
        raise UnequalDataError(
            f"this worker's data has {length} batches, the workers' mean is "
            f"{total / _count_workers():g}: give all the same data"
        )


class _AgreedBatches:
    """An iterable over a data set of unknown length until it has ended on all workers."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def __iter__(self) -> Iterator[Any]:
        import tensorflow as tf

        end = object()
        batches = iter(self._dataset)
        number = 0
        while True:
            batch = next(batches, end)
            having = all_reduce_scalar(0.0 if batch is end else 1.0)
            if having == 0:
                # Keras's loop over an iterator that is not TensorFlow's expects no other exception.
                raise tf.errors.OutOfRangeError(None, None, "end of data")
            if batch is end:
                raise UnequalDataError(
                    f"this worker's data ended after {number} batches, other workers have more: "
                    "give all the same data"
                )
            if having < _count_workers():
                raise UnequalDataError(
                    f"another worker's data ended after {number} batches: give all the same data"
                )
            number += 1
            yield batch


def all_reduce_consistent(
    parts: Sequence[Tensor], batch: Any, workers: int, dtype: DType
) -> Tensor:
    """Sum vectors over the workers, and check that the workers had the same batch.

    Args:
        parts: Vectors, of the same lengths on all workers.
        batch: The global batch that they were computed from.
        workers: The number of workers.
        dtype: The vectors' dtype.

    Returns:
        The sums, as one vector.
    """
    import tensorflow as tf

    mark = tf.cast(_fingerprint(batch), dtype)
    checks = tf.stack([mark, mark * mark])
    message = tf.concat([*parts, checks], 0)
    (total,) = all_reduce([message])
    mean, mean_square = tf.unstack(total[-2:] / workers)
    # Workers on different processors may have computed the same batch with different rounding.
    is_alike = tf.abs(mean_square - mean * mean) <= 1e-5 * tf.abs(mean_square) + 1e-12
    check = tf.debugging.Assert(is_alike, [_DIFFERENT])
    with tf.control_dependencies([check] if check is not None else []):
        return tf.identity(total[:-2])


def _fingerprint(batch: Any) -> Tensor:
    """Return a checksum in [0, 1] of the first and the last row of a batch.

    Rounding differences of floating values change it as little as the values.
    """
    import tensorflow as tf
    from keras.src import tree

    total = tf.constant(0.0, tf.float64)
    for leaf in tree.flatten(batch):
        is_dense = isinstance(leaf, tf.Tensor) and leaf.dtype.is_numeric
        if not is_dense or leaf.shape.rank == 0 or leaf.dtype.is_complex:
            continue
        for rows in (leaf[:1], leaf[-1:]):
            values = tf.reshape(tf.cast(rows, tf.float64), [-1])
            place = tf.cast(tf.range(tf.size(values)), tf.float64)
            size = tf.reduce_sum(tf.abs(values))
            pattern = tf.reduce_sum(values * tf.cos(place))
            if leaf.dtype.is_floating:
                pattern = tf.math.divide_no_nan(pattern, size) + tf.math.log1p(size)
            total = 1.6180339887 * total + pattern
    total = tf.where(tf.math.is_finite(total), total, 0.0)
    return 0.5 + 0.5 * tf.sin(total)


def sum_in_step(value: Tensor, weight: Tensor) -> Tensor:
    """Sum a float32 tensor over the workers inside a step, with correct gradients.

    The gradients of a step are finally weighted by its shard (see `gradients`). Gradients that
    flow to other workers' shards must be weighted by the shard that they come from.

    Args:
        value: A tensor, of the same shape on all workers.
        weight: The weight of this worker's shard.
    """
    import tensorflow as tf

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def add_up(part: Tensor) -> Any:
        def back(gradient: Tensor) -> Tensor:
            part_of_batch = tf.cast(weight, gradient.dtype)
            (total,) = all_reduce([gradient], part_of_batch)
            return tf.math.divide_no_nan(total, part_of_batch)

        return all_reduce([part])[0], back

    return add_up(value)


def wait_for_all() -> None:
    """Wait until every worker has reached the same place in the program."""
    all_reduce_scalar(1.0)


def _count_workers() -> int:
    from nano_init.distributed.job_strategy import job_strategy

    return int(job_strategy().num_replicas_in_sync)


def count_workers_where(condition: bool) -> int:
    """Return the number of workers on which a condition holds; all must call this."""
    return int(all_reduce_scalar(1.0 if condition else 0.0))


def broadcast_bytes(content: bytes, *, is_chief: bool) -> bytes:
    """Return the chief's bytes on all workers; all must call this.

    Args:
        content: The bytes to send; only the chief's are used.
        is_chief: Whether this worker is the chief.
    """
    import numpy as np
    import tensorflow as tf

    from nano_init.distributed.job_strategy import job_strategy

    own = np.frombuffer(content if is_chief else b"", np.uint8).astype(np.int32)
    size = int(job_strategy().reduce("SUM", tf.constant(len(own)), axis=None))
    if not size:
        return b""
    sent = own if is_chief else np.zeros(size, np.int32)
    received = job_strategy().reduce("SUM", tf.constant(sent), axis=None)
    return bytes(np.asarray(received).astype(np.uint8).tobytes())
