"""Everything that Keras's patch replaces for a worker of a job."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from nano_init.keras_patch.ledger import Replacement
    from nano_init.launch.membership import Membership

__all__ = ["worker_replacements"]


def worker_replacements(membership: Membership) -> Iterator[Replacement]:
    """Yield what makes Keras 3 train on this worker's shares of the script's batches.

    They wrap what else is replaced, and are therefore to be made after it.

    Args:
        membership: This worker's place in the job.
    """
    from nano_init.keras_patch.distribution.gradients import gradient_replacements
    from nano_init.keras_patch.distribution.losses import loss_replacements
    from nano_init.keras_patch.distribution.normalization import normalization_replacements
    from nano_init.keras_patch.distribution.randomness import randomness_replacements
    from nano_init.keras_patch.distribution.state import state_replacements
    from nano_init.keras_patch.distribution.training import training_replacements
    from nano_init.keras_patch.distribution.writing import writing_replacements

    yield from training_replacements(membership)
    yield from state_replacements()
    yield from loss_replacements()
    yield from gradient_replacements(compress=membership.compress)
    yield from normalization_replacements()
    yield from randomness_replacements()
    yield from writing_replacements(membership)
