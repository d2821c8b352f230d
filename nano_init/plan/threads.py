"""How many cores training should use, and why. Pure: facts in, a count with its reason out."""

from __future__ import annotations

from nano_init.plan.settings import ThreadCount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nano_init.machine.facts import Machine

__all__ = ["count_threads", "thread_warnings"]


def count_threads(
    machine: Machine, cap: int | None = None, cap_source: str = "--threads"
) -> ThreadCount:
    """Return how many cores training should use."""
    mask = set(machine.limits.affinity)
    cores = [core for core in machine.topology.cores if mask.intersection(core.cpus)]
    fast = [core for core in cores if core.kind == "performance"] or cores
    usable = len(fast)
    if machine.limits.cpu_quota is not None:
        usable = min(usable, int(machine.limits.cpu_quota))
    if cap is not None:
        usable = min(usable, cap)
    return ThreadCount(max(1, usable), f"{len(mask)} allowed threads are {len(cores)} cores")


def thread_warnings(machine: Machine, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return what may slow training down, a sentence each."""
    return ()
