"""SGD, with and without (Nesterov) momentum, with one fused kernel per variable.

Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in deep
learning", 2013, as in Keras 3.15 (keras/src/optimizers/sgd.py, `update_step`).
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fused_optimizer import fused_kernel, scalar
from nano_init.keras_patch.faster.optimizer_update import update_replacements

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nano_init.keras_patch.tensor_types import Optimizer, Tensor

__all__ = ["sgd_replacements"]


def _rate(optimizer: Optimizer, learning_rate: Any) -> dict[str, Tensor]:
    del optimizer
    return {"alpha": scalar(learning_rate)}


def _rate_and_momentum(optimizer: Optimizer, learning_rate: Any) -> dict[str, Any]:
    return {
        "lr": scalar(learning_rate),
        "momentum": scalar(optimizer.momentum),
        "use_nesterov": bool(optimizer.nesterov),
    }


_PLAIN = fused_kernel(
    "ResourceApplyGradientDescent",
    {},
    _rate,
    gradient="delta",
    when=lambda optimizer: optimizer.momentum == 0,
)
_WITH_MOMENTUM = fused_kernel(
    "ResourceApplyKerasMomentum", {"accum": "momentums"}, _rate_and_momentum
)

sgd_replacements = update_replacements("sgd", "SGD", _PLAIN, _WITH_MOMENTUM)
