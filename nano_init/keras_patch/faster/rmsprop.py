"""RMSprop with one fused kernel or one island per variable.

The formulas are Keras's own (keras/src/optimizers/rmsprop.py, `update_step`):
`ResourceApplyRMSProp` and `ResourceApplyCenteredRMSProp` in
tensorflow/core/kernels/training_ops.cc. Both kernels need a momentum variable. Without momentum
Keras has none, and an island updates large variables.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fallback import with_faster_path
from nano_init.keras_patch.faster.fused_optimizer import is_dense_float32, resource, scalar
from nano_init.keras_patch.faster.step_scalars import once_a_step
from nano_init.keras_patch.faster.update_island import is_worth_an_update_island, update_island
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import IndexedSlices, Optimizer, Tensor, Variable

__all__ = ["rmsprop_replacements"]


def rmsprop_replacements() -> Iterator[Replacement]:
    """Yield the replacements that update dense float32 variables in one pass."""
    from keras.optimizers import RMSprop

    faster = with_faster_path("rmsprop", vars(RMSprop)["update_step"], _applies, _update)
    yield Replacement(RMSprop, "update_step", faster)


def _applies(
    optimizer: Optimizer, gradient: Tensor | IndexedSlices, variable: Variable, learning_rate: Any
) -> bool:
    del learning_rate
    if optimizer.momentum > 0:
        return is_dense_float32(gradient, variable)
    return not optimizer.centered and is_worth_an_update_island(gradient, variable)


def _update(optimizer: Optimizer, gradient: Tensor, variable: Variable, learning_rate: Any) -> None:
    import tensorflow as tf

    index = optimizer._get_variable_index(variable)
    scalars = once_a_step(optimizer, _scalars, optimizer, learning_rate)
    if optimizer.momentum <= 0:
        needed = (scalars["lr"], scalars["rho"], scalars["epsilon"])
        _island((variable, optimizer._velocities[index]), gradient, needed)
        return
    arguments = {
        "var": resource(variable).handle,
        "ms": resource(optimizer._velocities[index]).handle,
        "mom": resource(optimizer._momentums[index]).handle,
        "grad": tf.cast(gradient, tf.float32),
        **scalars,
    }
    if optimizer.centered:
        mean = resource(optimizer._average_gradients[index]).handle
        tf.raw_ops.ResourceApplyCenteredRMSProp(mg=mean, **arguments)
    else:
        tf.raw_ops.ResourceApplyRMSProp(**arguments)


def _scalars(optimizer: Optimizer, learning_rate: Any) -> dict[str, Tensor]:
    return {
        "lr": scalar(learning_rate),
        "rho": scalar(optimizer.rho),
        "momentum": scalar(optimizer.momentum),
        "epsilon": scalar(optimizer.epsilon),
    }


def _formula(
    weight: Tensor, velocity: Tensor, gradient: Tensor, rate: Tensor, rho: Tensor, epsilon: Tensor
) -> tuple[Tensor, ...]:
    import tensorflow as tf

    velocity = rho * velocity + (1.0 - rho) * tf.square(gradient)
    return weight - rate * gradient / tf.sqrt(velocity + epsilon), velocity


_island = update_island(_formula)
