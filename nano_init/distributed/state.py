"""The state that a step writes: metrics count each row once, and other state is averaged.

Keras's metrics keep their state in variables that are summed over the workers when they are read
(keras/src/metrics/metric.py, `synchronization="on_read"`). Rows of padding must not count. Other
state of layers, such as the moving moments of BatchNormalization, is separate on each replica in
Keras (`aggregation="none"`), so the workers' models would drift apart. Here the workers average it
at the end of the step.
"""

from __future__ import annotations

import functools
import threading

from nano_init.distributed.batch_shard import current_shard, note_written
from nano_init.distributed.gradients import is_summed
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Variable

__all__ = ["is_overwritten", "state_replacements"]

_HERE = threading.local()


def state_replacements() -> Iterator[Replacement]:
    """Yield the replacements that track the variables that a step writes."""
    from keras.src.backend.common import variables
    from keras.src.backend.tensorflow.core import Variable

    base = variables.Variable
    for name in ("assign_add", "assign_sub"):
        yield Replacement(base, name, _wrap_assign_add(vars(base)[name]))
    name = "_direct_assign"
    yield Replacement(Variable, name, _wrap_assign(vars(Variable)[name]))


def _wrap_assign(assign: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(assign)
    def watched_assign(self: Variable, value: Any) -> None:
        shard = current_shard()
        if shard is None:
            assign(self, value)
        elif self.synchronization == "on_read":
            if not getattr(_HERE, "is_adding", False):
                self._is_overwritten_on_shards = True
            assign(self, _unless_padding(self, value) if shard.may_be_padding else value)
        else:
            assign(self, value)
            # An optimizer's state follows from summed gradients, so it is equal already.
            if self.aggregation == "none" and not is_summed() and _is_floating(self):
                note_written(self)

    return watched_assign


def _wrap_assign_add(add: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(add)
    def noted_add(self: Variable, value: Any) -> Any:
        _HERE.is_adding = True
        try:
            return add(self, value)
        finally:
            _HERE.is_adding = False

    return noted_add


def is_overwritten(variable: Variable) -> bool:
    """Say whether a step has written a variable otherwise than by adding to it."""
    return bool(getattr(variable, "_is_overwritten_on_shards", False))


def _unless_padding(variable: Variable, value: Any) -> Any:
    import tensorflow as tf

    shard = current_shard()
    kept = tf.convert_to_tensor(variable.value)
    return tf.where(shard.owned > 0, tf.cast(value, kept.dtype), kept) if shard else value


def _is_floating(variable: Variable) -> bool:
    return bool(variable.value.dtype.is_floating)
