"""Adagrad with one island per variable.

The formula is Keras's own (keras/src/optimizers/adagrad.py, `update_step`). TensorFlow's fused
`ResourceApplyAdagradV2` adds epsilon outside of the root, so its numbers differ.
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

__all__ = ["adagrad_replacements"]


def adagrad_replacements() -> Iterator[Replacement]:
    """Yield the replacements that update large dense float32 variables by an island each."""
    from keras.optimizers import Adagrad

    faster = with_faster_path("adagrad", vars(Adagrad)["update_step"], _applies, _update)
    yield Replacement(Adagrad, "update_step", faster)


def _applies(
    optimizer: Optimizer, gradient: Tensor | IndexedSlices, variable: Variable, learning_rate: Any
) -> bool:
    del optimizer, learning_rate
    return is_worth_an_update_island(gradient, variable)


def _update(optimizer: Optimizer, gradient: Tensor, variable: Variable, learning_rate: Any) -> None:
    slot = optimizer._accumulators[optimizer._get_variable_index(variable)]
    scalars = once_a_step(optimizer, _scalars, optimizer, learning_rate)
    _island((variable, slot), gradient, scalars)


def _scalars(optimizer: Optimizer, learning_rate: Any) -> tuple[Tensor, ...]:
    return scalar(learning_rate), scalar(optimizer.epsilon)


def _formula(
    weight: Tensor, accumulator: Tensor, gradient: Tensor, rate: Tensor, epsilon: Tensor
) -> tuple[Tensor, ...]:
    import tensorflow as tf

    accumulator = accumulator + tf.square(gradient)
    return weight - rate * gradient / tf.sqrt(accumulator + epsilon), accumulator


_island = update_island(_formula)
