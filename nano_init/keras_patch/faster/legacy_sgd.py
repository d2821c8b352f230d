"""SGD of Keras 2 (`tf_keras`) with one fused kernel per variable.

Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in deep
learning", 2013, as in tf_keras 2.21 (tf_keras/src/optimizers/sgd.py, `update_step`). Keras 2 keeps
and saves a momentum variable without momentum too, so that the kernel with momentum computes both.
A sparse gradient also updates every row of it; it is converted to dense first.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fused_optimizer import scalar
from nano_init.keras_patch.faster.legacy_update import LegacyUpdate, legacy_update_replacement
from nano_init.keras_patch.faster.step_scalars import once_a_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from nano_init.keras_patch.ledger import Replacement
    from nano_init.keras_patch.tensor_types import Optimizer, Tensor, Variable

__all__ = ["legacy_sgd_replacements"]


def legacy_sgd_replacements() -> Iterator[Replacement]:
    """Yield the replacement of the update."""
    from tf_keras.src.optimizers.sgd import SGD

    update = LegacyUpdate(("momentums",), _run, when=lambda _: True, takes_sparse=lambda _: True)
    yield legacy_update_replacement("legacy_sgd", SGD, update)


def _run(optimizer: Optimizer, gradient: Tensor, variable: Variable, momentum: Variable) -> None:
    import tensorflow as tf

    tf.raw_ops.ResourceApplyKerasMomentum(
        var=variable.handle,
        accum=momentum.handle,
        grad=gradient,
        **once_a_step(optimizer, _arguments, optimizer),
    )


def _arguments(optimizer: Optimizer) -> dict[str, Any]:
    return {
        "lr": scalar(optimizer.learning_rate),
        "momentum": scalar(optimizer.momentum),
        "use_nesterov": bool(optimizer.nesterov),
    }
