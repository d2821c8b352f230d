"""An optimizer's update of a dense weight as one island.

TensorFlow has no fused kernel for these formulas, and Keras computes them with about ten
elementwise ops, each of which reads and writes whole tensors. An island reads the weight, its slots
and the gradient once, and writes new values, which become the variables' own.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fused_optimizer import is_dense_float32, resource
from nano_init.keras_patch.faster.xla_fusion import (
    flattened,
    is_large_in_graph,
    island,
    pays_in_fit,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from nano_init.keras_patch.tensor_types import IndexedSlices, Tensor, Variable

__all__ = ["is_worth_an_update_island", "update_island"]


def is_worth_an_update_island(gradient: Tensor | IndexedSlices, variable: Variable) -> bool:
    """Say whether an island can update a variable with a gradient, and is faster.

    Args:
        gradient: A floating tensor of the variable's shape, in a graph; others do not qualify.
        variable: A float32 variable of Keras or of TensorFlow, on one device.
    """
    return is_dense_float32(gradient, variable) and is_large_in_graph(gradient)


def update_island(formula: Callable[..., Any]) -> Callable[..., None]:
    """Return a function that updates variables by a formula in one island.

    The returned function takes the variables (a weight, and its slots), the gradient and the
    scalars.

    Args:
        formula: Takes float32 tensors with one axis (the weight, its slots, the gradient) and then
            the scalars, and returns the new weight and slots.
    """
    run = island(formula)
    name = f"{formula.__module__}.{formula.__qualname__}"

    def update(variables: Sequence[Variable], gradient: Tensor, scalars: Sequence[Tensor]) -> None:
        import tensorflow as tf

        targets = [resource(variable) for variable in variables]
        before = [tf.convert_to_tensor(target) for target in targets]
        gradient = tf.cast(gradient, tf.float32)
        when = pays_in_fit(name, before[0])
        after = run(*map(flattened, (*before, gradient)), *scalars, when=when)
        for target, value in zip(targets, after, strict=True):
            target.assign(tf.reshape(value, target.shape))

    return update
