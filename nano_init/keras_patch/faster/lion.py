"""Lion with one island per variable.

The formula is Keras's own (keras/src/optimizers/lion.py, `update_step`). Where momentum and
gradient cancel out, rounding decides about the sign of an element's step, as it does in Keras.
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

__all__ = ["lion_replacements"]


def lion_replacements() -> Iterator[Replacement]:
    """Yield the replacements that update large dense float32 variables by an island each."""
    from keras.optimizers import Lion

    faster = with_faster_path("lion", vars(Lion)["update_step"], _applies, _update)
    yield Replacement(Lion, "update_step", faster)


def _applies(
    optimizer: Optimizer, gradient: Tensor | IndexedSlices, variable: Variable, learning_rate: Any
) -> bool:
    del optimizer, learning_rate
    return is_worth_an_update_island(gradient, variable)


def _update(optimizer: Optimizer, gradient: Tensor, variable: Variable, learning_rate: Any) -> None:
    slot = optimizer._momentums[optimizer._get_variable_index(variable)]
    scalars = once_a_step(optimizer, _scalars, optimizer, learning_rate)
    _island((variable, slot), gradient, scalars)


def _scalars(optimizer: Optimizer, learning_rate: Any) -> tuple[Tensor, ...]:
    return scalar(learning_rate), scalar(optimizer.beta_1), scalar(optimizer.beta_2)


def _formula(
    weight: Tensor, momentum: Tensor, gradient: Tensor, rate: Tensor, beta_1: Tensor, beta_2: Tensor
) -> tuple[Tensor, ...]:
    import tensorflow as tf

    direction = tf.sign(momentum * beta_1 + gradient * (1.0 - beta_1))
    return weight - rate * direction, momentum * beta_2 + gradient * (1.0 - beta_2)


_island = update_island(_formula)
