"""The state that a step writes: metrics count each row once, and other state is averaged.

Keras's metrics keep their state in variables that are summed over the workers when they are read
(keras/src/metrics/metric.py, `synchronization="on_read"`). Rows of padding must not count. Other
state of layers, such as the moving moments of BatchNormalization, is separate on each replica in
Keras (`aggregation="none"`), so the workers' models would drift apart. Here the workers average it
at the end of the step.
"""

from __future__ import annotations

import functools

from nano_init.distributed.batch_shard import current_shard, note_written
from nano_init.distributed.gradients import is_summed
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Variable

__all__ = ["state_replacements"]


def state_replacements() -> Iterator[Replacement]:
    """Yield the replacements that track the variables that a step writes."""
    from keras.src.backend.tensorflow.core import Variable

    name = "_direct_assign"
    yield Replacement(Variable, name, _wrap_assign(vars(Variable)[name]))


def _wrap_assign(assign: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(assign)
    def watched_assign(self: Variable, value: Any) -> None:
        shard = current_shard()
        if shard is None:
            assign(self, value)
        elif self.synchronization == "on_read":
            assign(self, _unless_padding(self, value) if shard.may_be_padding else value)
        else:
            assign(self, value)
            # An optimizer's state follows from summed gradients, so it is equal already.
            if self.aggregation == "none" and not is_summed() and _is_floating(self):
                note_written(self)

    return watched_assign


def _unless_padding(variable: Variable, value: Any) -> Any:
    import tensorflow as tf

    shard = current_shard()
    kept = tf.convert_to_tensor(variable.value)
    return tf.where(shard.owned > 0, tf.cast(value, kept.dtype), kept) if shard else value


def _is_floating(variable: Variable) -> bool:
    return bool(variable.value.dtype.is_floating)
