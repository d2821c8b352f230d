"""RMSprop with momentum, with one fused kernel per variable.

The formulas are Keras's own (keras/src/optimizers/rmsprop.py, `update_step`):
`ResourceApplyRMSProp` and `ResourceApplyCenteredRMSProp` in
tensorflow/core/kernels/training_ops.cc. Both kernels need a momentum variable. Without
momentum Keras has none, and its own code runs.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fallback import with_faster_path
from nano_init.keras_patch.faster.fused_optimizer import is_dense_float32, resource, scalar
from nano_init.keras_patch.faster.step_scalars import once_a_step
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import IndexedSlices, Optimizer, Tensor, Variable

__all__ = ["rmsprop_replacements"]


def rmsprop_replacements() -> Iterator[Replacement]:
    """Yield the replacements that update dense float32 variables with the fused kernels."""
    from keras.optimizers import RMSprop

    faster = with_faster_path("rmsprop", vars(RMSprop)["update_step"], _applies, _update)
    yield Replacement(RMSprop, "update_step", faster)


def _applies(
    optimizer: Optimizer, gradient: Tensor | IndexedSlices, variable: Variable, learning_rate: Any
) -> bool:
    del learning_rate
    return optimizer.momentum > 0 and is_dense_float32(gradient, variable)


def _update(optimizer: Optimizer, gradient: Tensor, variable: Variable, learning_rate: Any) -> None:
    import tensorflow as tf

    index = optimizer._get_variable_index(variable)
    arguments = {
        "var": resource(variable).handle,
        "ms": resource(optimizer._velocities[index]).handle,
        "mom": resource(optimizer._momentums[index]).handle,
        "grad": tf.cast(gradient, tf.float32),
        **once_a_step(optimizer, _scalars, optimizer, learning_rate),
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
