"""Nadam with one island per variable.

Dozat, "Incorporating Nesterov momentum into Adam", 2016, as in Keras 3.15
(keras/src/optimizers/nadam.py, `update_step`). What is the same for all elements is computed once
per step.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fused_optimizer import scalar
from nano_init.keras_patch.faster.optimizer_update import update_replacements
from nano_init.keras_patch.faster.update_island import update_island

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nano_init.keras_patch.tensor_types import Optimizer, Tensor

__all__ = ["nadam_replacements"]


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


_UPDATE = update_island(_formula, ("_momentums", "_velocities"), _scalars)

nadam_replacements = update_replacements("nadam", "Nadam", _UPDATE)
