"""Activity regularizers and `add_loss` terms are summed in float32.

A sum of bfloat16 terms stops growing once it is 256 times as large as the next term.
"""

from __future__ import annotations

import functools

from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ["extra_loss_replacements"]


def extra_loss_replacements() -> Iterator[Replacement]:
    """Yield what widens the values that Keras's regularizers and `add_loss` are given."""
    from keras.src.layers.layer import Layer
    from keras.src.regularizers import regularizers

    for owner in (regularizers.L1L2, regularizers.L1, regularizers.L2):
        yield Replacement(owner, "__call__", _of_float32(vars(owner)["__call__"]))
    yield Replacement(Layer, "add_loss", _of_float32(vars(Layer)["add_loss"]))


def _of_float32(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def of_float32(self: Any, value: Any) -> Any:
        from keras.src import tree

        return function(self, tree.map_structure(_widened, value))

    return of_float32


def _widened(value: Any) -> Any:
    import tensorflow as tf

    is_narrow = isinstance(value, tf.Tensor) and value.dtype == tf.bfloat16
    return tf.cast(value, tf.float32) if is_narrow else value
