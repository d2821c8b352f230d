"""RMSprop with one fused kernel or one island per variable.

Tieleman, Hinton, "Lecture 6.5: RMSProp", 2012; centered: Graves, "Generating sequences with
recurrent neural networks", 2013; as in Keras 3.15 (keras/src/optimizers/rmsprop.py, `update_step`).
Both kernels need a momentum variable. Without momentum Keras has none, and an island updates large
variables.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fused_optimizer import fused_kernel, scalar
from nano_init.keras_patch.faster.optimizer_update import update_replacements
from nano_init.keras_patch.faster.update_island import update_island

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nano_init.keras_patch.tensor_types import Optimizer, Tensor

__all__ = ["rmsprop_replacements"]


def _kernel_scalars(optimizer: Optimizer, learning_rate: Any) -> dict[str, Tensor]:
    return {
        "lr": scalar(learning_rate),
        "rho": scalar(optimizer.rho),
        "momentum": scalar(optimizer.momentum),
        "epsilon": scalar(optimizer.epsilon),
    }


def _scalars(optimizer: Optimizer, learning_rate: Any) -> tuple[Tensor, ...]:
    return scalar(learning_rate), scalar(optimizer.rho), scalar(optimizer.epsilon)


def _formula(
    weight: Tensor, velocity: Tensor, gradient: Tensor, rate: Tensor, rho: Tensor, epsilon: Tensor
) -> tuple[Tensor, ...]:
    import tensorflow as tf

    velocity = rho * velocity + (1.0 - rho) * tf.square(gradient)
    return weight - rate * gradient / tf.sqrt(velocity + epsilon), velocity


_SLOTS = {"ms": "_velocities", "mom": "_momentums"}
_CENTERED = fused_kernel(
    "ResourceApplyCenteredRMSProp",
    {**_SLOTS, "mg": "_average_gradients"},
    _kernel_scalars,
    when=lambda optimizer: optimizer.momentum > 0 and optimizer.centered,
)
_WITH_MOMENTUM = fused_kernel(
    "ResourceApplyRMSProp",
    _SLOTS,
    _kernel_scalars,
    when=lambda optimizer: optimizer.momentum > 0,
)
_PLAIN = update_island(
    _formula, ("_velocities",), _scalars, when=lambda optimizer: not optimizer.centered
)

rmsprop_replacements = update_replacements("rmsprop", "RMSprop", _CENTERED, _WITH_MOMENTUM, _PLAIN)
