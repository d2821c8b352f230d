"""An optimizer's scalars once a step instead of once for each variable.

Keras asks for the learning rate, the number of the step and powers of the betas in the update
of each variable (keras/src/optimizers/adam.py, `update_step`): ten ops on scalars for one
that updates, which a model of hundreds of variables is traced for. The fused updates of
`adam`, `sgd` and `rmsprop` ask here.
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

__all__ = ["once_a_step", "step_scalars_replacements"]

_running = threading.local()


def step_scalars_replacements() -> Iterator[Replacement]:
    """Yield what keeps the scalars while an optimizer updates its variables."""
    from keras.src.backend.tensorflow.optimizer import TFOptimizer

    name = "_backend_update_step"
    yield Replacement(TFOptimizer, name, _wrap_update_all(vars(TFOptimizer)[name]))


def once_a_step(optimizer: Optimizer, make: Callable[..., Any], *args: Any) -> Any:
    """Return what `make` returns, made once for all variables that an optimizer updates.

    Args:
        optimizer: The optimizer that updates a variable.
        make: Makes the scalars, from the same arguments for each variable.
        args: Its arguments.
    """
    from tensorflow.python.framework import ops

    kept = getattr(_running, "kept", None)
    if kept is None or kept[0] is not optimizer:
        return make(*args)
    # A tensor belongs to its graph; that of eager ops is one too.
    key = ops.get_default_graph(), make, tuple(id(each) for each in args)
    if key not in kept[1]:
        kept[1][key] = make(*args), args
    return kept[1][key][0]


def _wrap_update_all(update: Callable[..., Any]) -> Callable[..., Any]:
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
