"""Compute an optimizer's scalars once per step instead of once per variable.

Keras computes the learning rate, the step number and powers of the betas in the update of each
variable (keras/src/optimizers/adam.py, `update_step`). That is ten scalar ops for one update op,
and all are traced for each of hundreds of variables. The updates of `fused_optimizer` and
`update_island` use this module.
"""

from __future__ import annotations

import functools
import threading

from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Optimizer

__all__ = ["keeping_scalars", "once_a_step", "step_scalars_replacements"]

_running = threading.local()


def step_scalars_replacements() -> Iterator[Replacement]:
    """Yield the replacements that keep the scalars while an optimizer updates its variables."""
    from keras.src.backend.tensorflow.optimizer import TFOptimizer

    name = "_backend_update_step"
    yield Replacement(TFOptimizer, name, keeping_scalars(vars(TFOptimizer)[name]))


def once_a_step(optimizer: Optimizer, make: Callable[..., Any], *args: Any) -> Any:
    """Return the scalars, computed once for all variables that an optimizer updates.

    Args:
        optimizer: The optimizer that updates a variable.
        make: Computes the scalars from arguments that are the same for each variable.
        args: The arguments of `make`.
    """
    from tensorflow.python.framework import ops

    kept = getattr(_running, "kept", None)
    if kept is None or kept[0] is not optimizer:
        return make(*args)
    # A tensor belongs to its graph; eager mode counts as one.
    key = ops.get_default_graph(), make, tuple(id(each) for each in args)
    if key not in kept[1]:
        kept[1][key] = make(*args), args
    return kept[1][key][0]


def keeping_scalars(update: Callable[..., Any]) -> Callable[..., Any]:
    """Return an optimizer's method that updates all variables, with the scalars kept meanwhile.

    Args:
        update: The method.
    """

    @functools.wraps(update)
    def update_all(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        import tensorflow as tf

        # A strategy's variables may be on several devices.
        if tf.distribute.has_strategy():
            return update(self, *args, **kwargs)
        outer = getattr(_running, "kept", None)
        _running.kept = self, {}
        try:
            return update(self, *args, **kwargs)
        finally:
            _running.kept = outer

    return update_all
