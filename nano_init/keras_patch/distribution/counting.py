"""Metrics count each row of a batch once: what a worker computes on a lent row is dropped.

Keras's metrics keep their state in variables that are added up when they are read
(keras/src/metrics/metric.py, `synchronization="on_read"`), and write them by `assign` alone.
"""

from __future__ import annotations

import functools

from nano_init.keras_patch.distribution.share import current_share
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ["counting_replacements"]


def counting_replacements() -> Iterator[Replacement]:
    """Yield what keeps a worker without rows of its own from counting."""
    from keras.src.backend.tensorflow.core import Variable

    name = "_direct_assign"
    yield Replacement(Variable, name, _unless_lent(vars(Variable)[name]))


def _unless_lent(assign: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(assign)
    def assign_unless_lent(self: Any, value: Any) -> None:
        share = current_share()
        if share is not None and share.may_be_lent and self.synchronization == "on_read":
            import tensorflow as tf

            kept = tf.convert_to_tensor(self.value)
            value = tf.where(share.owned > 0, tf.cast(value, kept.dtype), kept)
        assign(self, value)

    return assign_unless_lent
