"""Adadelta with one fused kernel per variable, `ResourceApplyAdadelta`.

The formula is Keras's own (keras/src/optimizers/adadelta.py, `update_step`, and
tensorflow/core/kernels/training_ops.cc, `ApplyAdadelta`).
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

__all__ = ["adadelta_replacements"]


def adadelta_replacements() -> Iterator[Replacement]:
    """Yield the replacements that update dense float32 variables with the fused kernel."""
    from keras.optimizers import Adadelta

    faster = with_faster_path("adadelta", vars(Adadelta)["update_step"], _applies, _update)
    yield Replacement(Adadelta, "update_step", faster)


def _applies(
    optimizer: Optimizer, gradient: Tensor | IndexedSlices, variable: Variable, learning_rate: Any
) -> bool:
    del optimizer, learning_rate
    return is_dense_float32(gradient, variable)


def _update(optimizer: Optimizer, gradient: Tensor, variable: Variable, learning_rate: Any) -> None:
    import tensorflow as tf

    index = optimizer._get_variable_index(variable)
    tf.raw_ops.ResourceApplyAdadelta(
        var=resource(variable).handle,
        accum=resource(optimizer._accumulated_grads[index]).handle,
        accum_update=resource(optimizer._accumulated_delta_vars[index]).handle,
        grad=tf.cast(gradient, tf.float32),
        **once_a_step(optimizer, _scalars, optimizer, learning_rate),
    )


def _scalars(optimizer: Optimizer, learning_rate: Any) -> dict[str, Tensor]:
    return {
        "lr": scalar(learning_rate),
        "rho": scalar(optimizer.rho),
        "epsilon": scalar(optimizer.epsilon),
    }
