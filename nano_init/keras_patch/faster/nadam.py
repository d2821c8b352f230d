"""Nadam with one island per variable.

The formula is Keras's own (keras/src/optimizers/nadam.py, `update_step`). What is the same for all
elements is computed once per step.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fallback import with_faster_path
from nano_init.keras_patch.faster.fused_optimizer import scalar
from nano_init.keras_patch.faster.step_scalars import once_a_step
from nano_init.keras_patch.faster.update_island import is_worth_an_update_island, update_island
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import IndexedSlices, Optimizer, Tensor, Variable

__all__ = ["nadam_replacements"]


def nadam_replacements() -> Iterator[Replacement]:
    """Yield the replacements that update large dense float32 variables by an island each."""
    from keras.optimizers import Nadam

    faster = with_faster_path("nadam", vars(Nadam)["update_step"], _applies, _update)
    yield Replacement(Nadam, "update_step", faster)


def _applies(
    optimizer: Optimizer, gradient: Tensor | IndexedSlices, variable: Variable, learning_rate: Any
) -> bool:
    del optimizer, learning_rate
    return is_worth_an_update_island(gradient, variable)


def _update(optimizer: Optimizer, gradient: Tensor, variable: Variable, learning_rate: Any) -> None:
    index = optimizer._get_variable_index(variable)
    slots = optimizer._momentums[index], optimizer._velocities[index]
    scalars = once_a_step(optimizer, _scalars, optimizer, learning_rate)
    _island((variable, *slots), gradient, scalars)


def _scalars(optimizer: Optimizer, learning_rate: Any) -> tuple[Tensor, ...]:
    import tensorflow as tf

    step = scalar(optimizer.iterations) + 1.0
    beta_1, beta_2 = scalar(optimizer.beta_1), scalar(optimizer.beta_2)
    product, decay = scalar(optimizer._u_product), tf.constant(0.96)
    now = beta_1 * (1.0 - 0.5 * tf.pow(decay, step))
    following = beta_1 * (1.0 - 0.5 * tf.pow(decay, step + 1.0))
    return (
        scalar(learning_rate),
        1.0 - beta_1,
        1.0 - beta_2,
        following / (1.0 - product * following),
        (1.0 - now) / (1.0 - product),
        1.0 - tf.pow(beta_2, step),
        scalar(optimizer.epsilon),
    )


def _formula(
    weight: Tensor, momentum: Tensor, velocity: Tensor, gradient: Tensor, *scalars: Tensor
) -> tuple[Tensor, ...]:
    import tensorflow as tf

    rate, rest_1, rest_2, of_momentum, of_gradient, correction, epsilon = scalars
    momentum = momentum + (gradient - momentum) * rest_1
    velocity = velocity + (tf.square(gradient) - velocity) * rest_2
    ahead = of_momentum * momentum + of_gradient * gradient
    weight = weight - ahead * rate / (tf.sqrt(velocity / correction) + epsilon)
    return weight, momentum, velocity


_island = update_island(_formula)
