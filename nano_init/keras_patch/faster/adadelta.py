"""Adadelta with one fused kernel per variable.

Zeiler, "ADADELTA: An adaptive learning rate method", 2012, as in Keras 3.15
(keras/src/optimizers/adadelta.py, `update_step`).
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fused_optimizer import fused_kernel, scalar
from nano_init.keras_patch.faster.optimizer_update import update_replacements

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nano_init.keras_patch.tensor_types import Optimizer, Tensor

__all__ = ["adadelta_replacements"]


def _scalars(optimizer: Optimizer, learning_rate: Any) -> dict[str, Tensor]:
    return {
        "lr": scalar(learning_rate),
        "rho": scalar(optimizer.rho),
        "epsilon": scalar(optimizer.epsilon),
    }


_SLOTS = {"accum": "_accumulated_grads", "accum_update": "_accumulated_delta_vars"}
_UPDATE = fused_kernel("ResourceApplyAdadelta", _SLOTS, _scalars)

adadelta_replacements = update_replacements("adadelta", "Adadelta", _UPDATE)
