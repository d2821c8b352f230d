"""Activity regularizers, `add_loss` terms and counters in layers are summed in float32.

A bfloat16 sum stops growing once it is 256 times as large as the next term.
"""

from __future__ import annotations

import functools

from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Variable

__all__ = ["extra_loss_replacements"]


def extra_loss_replacements() -> Iterator[Replacement]:
    """Yield the replacements that widen the arguments of Keras's regularizers and `add_loss`."""
    from keras.src.backend.common import variables
    from keras.src.layers.layer import Layer
    from keras.src.regularizers import regularizers

    for owner in (regularizers.L1L2, regularizers.L1, regularizers.L2):
        yield Replacement(owner, "__call__", _wrap_call(vars(owner)["__call__"]))
    yield Replacement(Layer, "add_loss", _wrap_call(vars(Layer)["add_loss"]))
    # The class had the longer name before Keras 3.8.
    variable = getattr(variables, "KerasVariable", None) or variables.Variable
    for name in ("assign_add", "assign_sub"):
        yield Replacement(variable, name, _wrap_assign(vars(variable)[name]))


def _wrap_call(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call_with_float32(self: Any, value: Any) -> Any:
        from keras.src import tree

        return function(self, tree.map_structure(_widened, value))

    return call_with_float32


def _wrap_assign(assign: Callable[..., Any]) -> Callable[..., Any]:
    # Keras adds to the variable's value as a layer reads it, rounded to the compute dtype.
    from keras.src.backend.common.variables import AutocastScope

    @functools.wraps(assign)
    def assign_unrounded(self: Variable, value: Any) -> Any:
        with AutocastScope(None):
            return assign(self, value)

    return assign_unrounded


def _widened(value: Any) -> Any:
    import tensorflow as tf

    is_narrow = isinstance(value, tf.Tensor) and value.dtype == tf.bfloat16
    return tf.cast(value, tf.float32) if is_narrow else value
