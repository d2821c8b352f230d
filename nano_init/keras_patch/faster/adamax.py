"""Adamax with one fused kernel per variable.

Kingma, Ba, "Adam: A method for stochastic optimization", 2014, section 7.1, as in Keras 3.15
(keras/src/optimizers/adamax.py, `update_step`).
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fused_optimizer import fused_kernel, scalar
from nano_init.keras_patch.faster.optimizer_update import update_replacements

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nano_init.keras_patch.tensor_types import Optimizer, Tensor

__all__ = ["adamax_replacements"]


def _scalars(optimizer: Optimizer, learning_rate: Any) -> dict[str, Tensor]:
    import tensorflow as tf

    beta_1 = scalar(optimizer.beta_1)
    return {
        "beta1_power": tf.pow(beta_1, scalar(optimizer.iterations) + 1.0),
        "lr": scalar(learning_rate),
        "beta1": beta_1,
        "beta2": scalar(optimizer.beta_2),
        "epsilon": scalar(optimizer.epsilon),
    }


_UPDATE = fused_kernel("ResourceApplyAdaMax", {"m": "_m", "v": "_u"}, _scalars)

adamax_replacements = update_replacements("adamax", "Adamax", _UPDATE)
