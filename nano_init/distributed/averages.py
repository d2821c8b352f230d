"""Divisors of losses in a program's own step that runs on a shard of the batch.

A shard's loss stays a mean over its rows, and the gradients are weighted afterwards (see
`gradients`). So a step computes as with one replica. TensorFlow would divide by the number of
replicas in `tf.nn.scale_regularization_loss`, in `tf.nn.compute_average_loss` without a batch
size, in Keras's losses, and in a program's own `loss / strategy.num_replicas_in_sync`
(tensorflow/python/ops/nn_impl_distribute.py).
"""

from __future__ import annotations

import functools

from nano_init.distributed.batch_shard import current_shard
from nano_init.distributed.losses import inverse_weight

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from nano_init.distributed.batch_shard import BatchShard
    from nano_init.keras_patch.tensor_types import Strategy, Tensor

__all__ = ["average_as_one_replica"]


def average_as_one_replica(is_job_strategy: Callable[[Strategy], bool]) -> None:
    """Make steps on shards see one replica, and correct sums divided by the global batch size.

    Args:
        is_job_strategy: Returns whether a strategy is the one whose steps run on shards.
    """
    import tensorflow as tf
    from tensorflow.python.distribute.distribute_lib import StrategyBase
    from tensorflow.python.ops import nn_impl_distribute

    base: Any = StrategyBase
    count = base.num_replicas_in_sync.fget
    base.num_replicas_in_sync = property(_wrap_replica_count(count, is_job_strategy))
    # The function cannot be changed in place.
    average = _wrap_average_loss(nn_impl_distribute.compute_average_loss)
    modules: tuple[Any, ...] = (nn_impl_distribute, tf.nn, tf.compat.v1.nn, tf.compat.v2.nn)
    for module in modules:
        module.compute_average_loss = average


def _wrap_replica_count(
    count: Callable[[Strategy], int], is_job_strategy: Callable[[Strategy], bool]
) -> Callable[[Strategy], int]:
    @functools.wraps(count)
    def count_one_on_a_shard(self: Strategy) -> int:
        is_shared = current_shard() is not None and is_job_strategy(self)
        return 1 if is_shared else count(self)

    return count_one_on_a_shard


def _wrap_average_loss(average: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(average)
    def average_of_whole_batch(
        per_example_loss: Any, sample_weight: Any = None, global_batch_size: Any = None
    ) -> Any:
        loss = average(per_example_loss, sample_weight, global_batch_size)
        shard = current_shard()
        if shard is None or global_batch_size is None:
            return loss
        import tensorflow as tf

        return loss * tf.cast(_rows_factor(global_batch_size, shard), loss.dtype)

    return average_of_whole_batch


def _rows_factor(divisor: Any, shard: BatchShard) -> Tensor:
    """Return the factor that turns a shard's sum, divided by the program, into the shard's mean.

    A program that divides by the rows of its argument has already divided by the shard's rows.
    """
    import tensorflow as tf

    is_own = tf.equal(tf.cast(divisor, tf.int64), tf.cast(shard.count, tf.int64))
    return tf.where(is_own, tf.constant(1.0, tf.float64), inverse_weight(shard))
