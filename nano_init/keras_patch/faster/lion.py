"""Lion with one island per variable.

Chen et al., "Symbolic discovery of optimization algorithms", 2023, as in Keras 3.15
(keras/src/optimizers/lion.py, `update_step`). Where momentum and gradient cancel out, rounding
decides about the sign of an element's step, as it does in Keras.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fused_optimizer import scalar
from nano_init.keras_patch.faster.optimizer_update import update_replacements
from nano_init.keras_patch.faster.update_island import update_island

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nano_init.keras_patch.tensor_types import Optimizer, Tensor

__all__ = ["lion_replacements"]


def _scalars(optimizer: Optimizer, learning_rate: Any) -> tuple[Tensor, ...]:
    return scalar(learning_rate), scalar(optimizer.beta_1), scalar(optimizer.beta_2)


def _formula(
    weight: Tensor, momentum: Tensor, gradient: Tensor, rate: Tensor, beta_1: Tensor, beta_2: Tensor
) -> tuple[Tensor, ...]:
    import tensorflow as tf

    direction = tf.sign(momentum * beta_1 + gradient * (1.0 - beta_1))
    return weight - rate * direction, momentum * beta_2 + gradient * (1.0 - beta_2)


_UPDATE = update_island(_formula, ("_momentums",), _scalars)

lion_replacements = update_replacements("lion", "Lion", _UPDATE)
