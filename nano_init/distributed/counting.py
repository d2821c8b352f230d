"""Variables that are summed over the workers when they are read: each row counts once.

Outside of steps all workers write the same values. TensorFlow divides an assigned value by the
number of replicas, which is inexact for integers and under rounding, and refuses `assign_add`
(tensorflow/python/distribute/values_util.py, `on_read_assign_add_cross_replica`). Here the first
worker holds the whole value, and the others zero. In a step, a row that pads an empty shard is not
counted; `state` handles what Keras 3 assigns there.
"""

from __future__ import annotations

import functools

from nano_init.distributed.batch_shard import current_shard
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.protocol.membership import Membership

__all__ = ["counting_replacements"]


def counting_replacements(membership: Membership) -> Iterator[Replacement]:
    """Yield the replacements for counting outside of steps, as with metrics of Keras 2.

    Args:
        membership: This worker's place in the job.
    """
    from tensorflow.python.distribute import values_util
    from tensorflow.python.distribute.values import SyncOnReadVariable

    for name in ("assign_add", "assign_sub"):
        yield Replacement(SyncOnReadVariable, name, _wrap_assign(vars(SyncOnReadVariable)[name]))
    for kind in ("assign", "assign_add", "assign_sub"):
        name = f"on_read_{kind}_cross_replica"
        write = vars(values_util)[name]
        on_device = vars(values_util)[f"{kind}_on_device"]
        yield Replacement(values_util, name, _wrap_on_write(write, on_device, membership))


def _wrap_assign(write: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(write)
    def write_unless_padding(self: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        shard = current_shard()
        if shard is not None and shard.may_be_padding:
            import tensorflow as tf

            value = tf.cast(value, self.dtype)
            value = tf.where(shard.owned > 0, value, tf.zeros_like(value))
        return write(self, value, *args, **kwargs)

    return write_unless_padding


def _wrap_on_write(
    write: Callable[..., Any], on_device: Callable[..., Any], membership: Membership
) -> Callable[..., Any]:
    @functools.wraps(write)
    def write_once(var: Any, value: Any, read_value: bool = True) -> Any:
        import tensorflow as tf
        from tensorflow.python.distribute import distribute_lib, values_util

        from nano_init.distributed.job_strategy import is_job_strategy

        is_summed = var.aggregation == tf.VariableAggregation.SUM
        if not is_summed or not is_job_strategy(var.distribute_strategy):
            return write(var, value, read_value)
        with distribute_lib.enter_or_assert_strategy(var.distribute_strategy):
            own = tf.cast(value, var.dtype)
            own = own if membership.index == 0 else tf.zeros_like(own)
            return values_util.assign_on_each_device(var, on_device, own, read_value)

    return write_once
