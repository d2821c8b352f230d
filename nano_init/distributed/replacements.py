"""All replacements of the Keras patch for a worker of a job."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from nano_init.keras_patch.ledger import Replacement
    from nano_init.protocol.membership import Membership

__all__ = ["worker_replacements"]


def worker_replacements(membership: Membership, kerases: Collection[str]) -> Iterator[Replacement]:
    """Yield the replacements that make Keras train in a job, Keras 3 on this worker's shards.

    Keras 2 shards the script's data itself; here its shards are weighted. These replacements wrap
    all others, and must be installed after them.

    Args:
        membership: This worker's place in the job.
        kerases: The packages to patch: `"keras"` (Keras 3), `"tf_keras"` (Keras 2) or both.
    """
    from nano_init.distributed.checkpoints import checkpoint_replacements
    from nano_init.distributed.collectives import collective_replacements
    from nano_init.distributed.counting import counting_replacements
    from nano_init.distributed.legacy_steps import first_optimizer_replacements
    from nano_init.distributed.single_writer import single_writer_replacements
    from nano_init.distributed.writing import saved_model_replacements

    if "keras" in kerases:
        yield from _keras_3_replacements(membership)
    if "tf_keras" in kerases:
        from nano_init.distributed.legacy_losses import legacy_loss_replacements
        from nano_init.distributed.legacy_steps import legacy_step_replacements
        from nano_init.distributed.metric_results import legacy_metric_replacements
        from nano_init.distributed.writing import legacy_writing_replacements

        yield from legacy_loss_replacements()
        yield from legacy_metric_replacements()
        yield from legacy_step_replacements(compress=membership.compress)
        yield from legacy_writing_replacements(membership)
    yield from checkpoint_replacements(membership)
    yield from saved_model_replacements(membership)
    yield from first_optimizer_replacements(compress=membership.compress)
    yield from counting_replacements(membership)
    yield from single_writer_replacements()
    yield from collective_replacements()


def _keras_3_replacements(membership: Membership) -> Iterator[Replacement]:
    from nano_init.distributed.gradients import gradient_replacements
    from nano_init.distributed.losses import loss_replacements
    from nano_init.distributed.metric_results import metric_replacements
    from nano_init.distributed.normalization import normalization_replacements
    from nano_init.distributed.randomness import randomness_replacements
    from nano_init.distributed.state import state_replacements
    from nano_init.distributed.training import training_replacements
    from nano_init.distributed.writing import writing_replacements

    yield from training_replacements(membership)
    yield from state_replacements()
    yield from loss_replacements()
    yield from gradient_replacements(compress=membership.compress)
    yield from metric_replacements()
    yield from normalization_replacements()
    yield from randomness_replacements()
    yield from writing_replacements(membership)
