"""Adam and AdamW with one fused kernel per variable.

Kingma, Ba, "Adam: A method for stochastic optimization", 2014, and Loshchilov, Hutter, "Decoupled
weight decay regularization", 2019, as in Keras 3.15 (keras/src/optimizers/adam.py, `update_step`).
A sparse gradient also updates every row, because the moments decay; it is converted to dense first,
once instead of three times.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.adam_ops import (
    AdamScalars,
    adam_scalars,
    is_for_ops,
    update_by_ops,
)
from nano_init.keras_patch.faster.fused_optimizer import (
    fused_kernel,
    resource,
    scalar,
    slot_variables,
)
from nano_init.keras_patch.faster.optimizer_update import Update, update_replacements
from nano_init.keras_patch.faster.step_scalars import once_a_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nano_init.keras_patch.tensor_types import Gradient, Optimizer, Tensor, Variable

__all__ = ["adam_replacements"]


def _arguments(optimizer: Optimizer, learning_rate: Any) -> dict[str, Tensor]:
    import tensorflow as tf

    step = scalar(optimizer.iterations) + 1.0
    beta_1, beta_2 = scalar(optimizer.beta_1), scalar(optimizer.beta_2)
    return {
        "beta1_power": tf.pow(beta_1, step),
        "beta2_power": tf.pow(beta_2, step),
        "lr": scalar(learning_rate),
        "beta1": beta_1,
        "beta2": beta_2,
        "epsilon": scalar(optimizer.epsilon),
    }


_SLOTS = {"m": "_momentums", "v": "_velocities"}
_KERNEL = fused_kernel(
    "ResourceApplyAdam",
    _SLOTS,
    _arguments,
    takes_sparse=True,
    when=lambda optimizer: not optimizer.amsgrad,
)


def _run(optimizer: Optimizer, gradient: Gradient, variable: Variable, learning_rate: Any) -> None:
    import tensorflow as tf

    if not is_for_ops(gradient):
        _KERNEL.run(optimizer, gradient, variable, learning_rate)
        return
    updated = (variable, *slot_variables(optimizer, variable, _SLOTS.values()))
    scalars = once_a_step(optimizer, _scalars, optimizer, learning_rate)
    handles = [resource(each).handle for each in updated]
    update_by_ops(handles, tf.cast(gradient, tf.float32), scalars)


def _scalars(optimizer: Optimizer, learning_rate: Any) -> AdamScalars:
    shares = scalar(1 - optimizer.beta_1), scalar(1 - optimizer.beta_2)
    return adam_scalars(once_a_step(optimizer, _arguments, optimizer, learning_rate), *shares)


adam_replacements = update_replacements("adam", "Adam", Update(_KERNEL.when, _KERNEL.takes, _run))
