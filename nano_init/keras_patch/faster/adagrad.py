"""Adagrad with one island per variable.

Duchi, Hazan, Singer, "Adaptive subgradient methods for online learning and stochastic
optimization", 2011, as in Keras 3.15 (keras/src/optimizers/adagrad.py, `update_step`). TensorFlow's
fused `ResourceApplyAdagradV2` adds epsilon outside of the root, so its numbers differ.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fused_optimizer import scalar
from nano_init.keras_patch.faster.optimizer_update import update_replacements
from nano_init.keras_patch.faster.update_island import update_island

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nano_init.keras_patch.tensor_types import Optimizer, Tensor

__all__ = ["adagrad_replacements"]


def _scalars(optimizer: Optimizer, learning_rate: Any) -> tuple[Tensor, ...]:
    return scalar(learning_rate), scalar(optimizer.epsilon)


def _formula(
    weight: Tensor, accumulator: Tensor, gradient: Tensor, rate: Tensor, epsilon: Tensor
) -> tuple[Tensor, ...]:
    import tensorflow as tf

    accumulator = accumulator + tf.square(gradient)
    return weight - rate * gradient / tf.sqrt(accumulator + epsilon), accumulator


_UPDATE = update_island(_formula, ("_accumulators",), _scalars)

adagrad_replacements = update_replacements("adagrad", "Adagrad", _UPDATE)
