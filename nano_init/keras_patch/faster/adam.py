"""Adam and AdamW with one fused kernel per variable.

Kingma, Ba, "Adam: A method for stochastic optimization", 2014, and Loshchilov, Hutter, "Decoupled
weight decay regularization", 2019, as in Keras 3.15 (keras/src/optimizers/adam.py, `update_step`).
A sparse gradient also updates every row, because the moments decay; it is converted to dense first,
once instead of three times.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fused_optimizer import fused_kernel, scalar
from nano_init.keras_patch.faster.optimizer_update import update_replacements

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nano_init.keras_patch.tensor_types import Optimizer, Tensor

__all__ = ["adam_replacements"]


def _scalars(optimizer: Optimizer, learning_rate: Any) -> dict[str, Tensor]:
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


_UPDATE = fused_kernel(
    "ResourceApplyAdam",
    {"m": "_momentums", "v": "_velocities"},
    _scalars,
    takes_sparse=True,
    when=lambda optimizer: not optimizer.amsgrad,
)

adam_replacements = update_replacements("adam", "Adam", _UPDATE)
