"""Compute the scalars of an optimizer of Keras 2 (`tf_keras`) once per step.

Keras 2 too computes the learning rate, the step number and powers of the betas in the update of
each variable (tf_keras/src/optimizers/adam.py, `update_step`), see `step_scalars`. The updates of
`legacy_update` use this module.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.step_scalars import keeping_scalars
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["legacy_step_scalars_replacements"]


def legacy_step_scalars_replacements() -> Iterator[Replacement]:
    """Yield the replacement that keeps the scalars while an optimizer updates its variables."""
    from tf_keras.src.optimizers.optimizer import Optimizer

    name = "_internal_apply_gradients"
    yield Replacement(Optimizer, name, keeping_scalars(vars(Optimizer)[name]))
