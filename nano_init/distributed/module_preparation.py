"""The changes that a worker makes to modules that its program imports."""

from __future__ import annotations

from nano_init.distributed.worker_startup import current_membership

__all__ = ["prepare_module"]


def prepare_module(name: str) -> None:
    """Prepare a module that the program just imported for the job.

    Args:
        name: "numpy" or "tensorflow".
    """
    membership = current_membership()
    if membership is None:
        return
    if name == "numpy":
        from nano_init.distributed.randomness import seed_numpy

        seed_numpy(membership.seed)
    elif name == "tensorflow":
        from nano_init.distributed.strategy_creation import await_first_use

        await_first_use(membership)
