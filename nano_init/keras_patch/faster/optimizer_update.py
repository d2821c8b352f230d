"""An optimizer's `update_step` as a faster path: from its formulas to a replacement.

An optimizer's own file has its formulas, each an `Update`: `fused_optimizer.fused_kernel` makes one
from an op of TensorFlow, `update_island.update_island` from a function of tensors.
Clipping, weight decay, moving averages, accumulation and loss scaling happen outside `update_step`
in Keras's own code (keras/src/optimizers/base_optimizer.py, `apply`).
"""

from __future__ import annotations

from nano_init.frozen import frozen
from nano_init.keras_patch.faster.fallback import with_faster_path
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Gradient, Optimizer, Variable

__all__ = ["Update", "update_replacements"]


@frozen
class Update:
    """One formula of an optimizer, and where it applies.

    Args:
        when: Takes the optimizer; whether its options call for this formula.
        takes: Takes a gradient and a variable; whether the update supports both.
        run: Takes the optimizer, the gradient, the variable and the learning rate, and updates the
            variable and its slots.
    """

    when: Callable[[Optimizer], bool]
    takes: Callable[[Gradient, Variable], bool]
    run: Callable[[Optimizer, Gradient, Variable, Any], None]


def update_replacements(
    path: str, class_name: str, *updates: Update
) -> Callable[[], Iterator[Replacement]]:
    """Return a function that yields the replacement of an optimizer's `update_step`.

    Args:
        path: The path's name.
        class_name: The optimizer's name in `keras.optimizers`.
        updates: The first one whose `when` holds is the optimizer's; if none holds, or it does not
            take the gradient, Keras's own code runs.
    """

    def chosen(optimizer: Optimizer) -> Iterator[Update]:
        return (update for update in updates if update.when(optimizer))

    def applies(
        optimizer: Optimizer, gradient: Gradient, variable: Variable, learning_rate: Any
    ) -> bool:
        del learning_rate
        update = next(chosen(optimizer), None)
        return update is not None and update.takes(gradient, variable)

    def run(
        optimizer: Optimizer, gradient: Gradient, variable: Variable, learning_rate: Any
    ) -> None:
        next(chosen(optimizer)).run(optimizer, gradient, variable, learning_rate)

    def replacements() -> Iterator[Replacement]:
        from keras import optimizers

        target = getattr(optimizers, class_name)
        faster = with_faster_path(path, vars(target)["update_step"], applies, run)
        yield Replacement(target, "update_step", faster)

    return replacements
