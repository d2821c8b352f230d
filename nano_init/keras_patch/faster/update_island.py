"""An optimizer's update of a dense weight as one island.

TensorFlow has no fused kernel for these formulas, and Keras computes them with about ten
elementwise ops, each of which reads and writes whole tensors. An island reads the weight, its slots
and the gradient once, and writes new values, which become the variables' own.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fused_optimizer import (
    is_dense_float32,
    resource,
    slot_variables,
)
from nano_init.keras_patch.faster.optimizer_update import Update
from nano_init.keras_patch.faster.step_scalars import once_a_step
from nano_init.keras_patch.faster.xla_fusion import (
    flattened,
    is_large_in_graph,
    island,
    pays_in_fit,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from nano_init.keras_patch.tensor_types import Gradient, Optimizer, Tensor, Variable

__all__ = ["is_worth_an_island", "update_island"]


def update_island(
    formula: Callable[..., tuple[Tensor, ...]],
    slots: tuple[str, ...],
    scalars: Callable[[Optimizer, Any], tuple[Tensor, ...]],
    *,
    when: Callable[[Optimizer], bool] = lambda _: True,
) -> Update:
    """Return an update by a formula, computed in one island.

    Args:
        formula: Takes float32 tensors with one axis (the weight, its slots, the gradient) and then
            the scalars, and returns the new weight and slots.
        slots: The optimizer's attributes with the slot variables.
        scalars: Takes the optimizer and the learning rate, and returns the formula's scalars, which
            are the same for all variables of a step.
        when: As for `Update`.
    """
    compute = island(formula)
    name = f"{formula.__module__}.{formula.__qualname__}"

    def run(optimizer: Optimizer, gradient: Tensor, variable: Variable, learning_rate: Any) -> None:
        import tensorflow as tf

        kept = (variable, *slot_variables(optimizer, variable, slots))
        targets = [resource(each) for each in kept]
        before = [tf.convert_to_tensor(target) for target in targets]
        values = map(flattened, (*before, tf.cast(gradient, tf.float32)))
        numbers = once_a_step(optimizer, scalars, optimizer, learning_rate)
        after = compute(*values, *numbers, when=pays_in_fit(name, before[0]))
        for target, value in zip(targets, after, strict=True):
            target.assign(tf.reshape(value, target.shape))

    return Update(when, is_worth_an_island, run)


def is_worth_an_island(gradient: Gradient, variable: Variable) -> bool:
    """Say whether an update is for islands: of a large dense float32 weight, in a graph."""
    return is_dense_float32(gradient, variable) and is_large_in_graph(gradient)
