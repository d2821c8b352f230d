"""Losses of Keras 2 (`tf_keras`) that weight uneven shards by their numbers of rows.

Keras 2 shards a batch itself, and divides each worker's mean loss by the number of workers
(tf_keras/src/utils/losses_utils.py, `scale_loss_for_distribution`). That is correct only for equal
shards. Here the loss is multiplied by the shard's fraction of the batch.
"""

from __future__ import annotations

import functools
import threading

from nano_init.distributed.all_reduce import all_reduce
from nano_init.distributed.job_strategy import is_job_strategy
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Tensor

__all__ = ["legacy_loss_replacements"]

_HERE = threading.local()


def legacy_loss_replacements() -> Iterator[Replacement]:
    """Yield the replacements that weight each worker's loss in Keras 2 by its rows."""
    from tf_keras.src.engine.compile_utils import LossesContainer
    from tf_keras.src.utils import losses_utils

    yield Replacement(
        LossesContainer, "__call__", _wrap_container_call(vars(LossesContainer)["__call__"])
    )
    name = "scale_loss_for_distribution"
    yield Replacement(losses_utils, name, _wrap_scale_loss(vars(losses_utils)[name]))


def _wrap_container_call(compute: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(compute)
    def compute_knowing_part(self: Any, y_true: Any, y_pred: Any, *args: Any, **kwargs: Any) -> Any:
        import tensorflow as tf

        if not is_job_strategy(tf.distribute.get_strategy()) or (
            tf.distribute.in_cross_replica_context()
        ):
            return compute(self, y_true, y_pred, *args, **kwargs)
        _HERE.part = _part_of_batch(y_pred)
        try:
            return compute(self, y_true, y_pred, *args, **kwargs)
        finally:
            _HERE.part = None

    return compute_knowing_part


def _part_of_batch(outputs: Any) -> Tensor | None:
    """Return this worker's fraction of the batch's rows, or None if all shards are equal."""
    import tensorflow as tf

    first = tf.nest.flatten(outputs)[0]
    # Shards whose size is known before the step have the same size on all workers.
    if not isinstance(first, tf.Tensor) or not first.shape.rank or first.shape[0] is not None:
        return None
    rows = tf.cast(tf.shape(first)[0], tf.float32)
    (total,) = all_reduce([rows])
    return tf.math.divide_no_nan(rows, total)


def _wrap_scale_loss(scale: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    @functools.wraps(scale)
    def scale_by_part(loss: Tensor) -> Tensor:
        import tensorflow as tf

        part = getattr(_HERE, "part", None)
        return scale(loss) if part is None else loss * tf.cast(part, loss.dtype)

    return scale_by_part
