"""How many cores training should use, and why. Pure: facts in, a count with its reason out."""

from __future__ import annotations

from nano_init.machine.cpulist import format_cpu_list
from nano_init.plan.binding_warnings import binding_warnings
from nano_init.plan.settings import ThreadCount
from nano_init.text import count_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nano_init.machine.facts import Core, Machine

__all__ = ["choose_cores", "count_threads", "thread_warnings"]


def count_threads(
    machine: Machine, cap: int | None = None, cap_source: str = "--threads"
) -> ThreadCount:
    """Return how many cores training should use, and which bounds say so.

    It is the least of the distinct performance cores inside the affinity mask, the whole
    processors of the CPU quota, this worker's share of both, and the user's cap; at least 1.
    The threads of a training step wait for one another at the end of each operation, so the
    slowest one counts: efficiency cores and throttled threads cost more than they bring. A
    quota is CPU time, whichever hardware threads spend it, and is not divided by SMT; a mask
    is counted in cores.

    Args:
        machine: the computer, as the process sees it.
        cap: the most cores that the user wants used, or None.
        cap_source: the option or variable that says so.
    """
    limits = machine.limits
    cores = choose_cores(machine.topology.cores, limits.affinity)
    bounds = [
        *_bound_by_workers(machine),
        *_bound_by_quota(limits.cpu_quota, limits.local_workers),
        *([(cap, f"{cap_source} {cap}")] if cap is not None else []),
    ]
    usable = max(1, min([len(cores), *(count for count, _ in bounds)]))
    clauses = [_describe_mask(machine, cores)]
    for count, text in bounds:
        binds = max(1, count) == usable and count < len(cores)
        clauses.append(f"{text} {'binds' if binds else 'does not bind'}")
    online = len(machine.topology.online)
    if online > len(limits.affinity):
        clauses.append(f"host has {online}")
    return ThreadCount(usable, f"{usable}: {'; '.join(clauses)}")


def choose_cores(cores: Iterable[Core], mask: Iterable[int]) -> tuple[Core, ...]:
    """Return the cores to train on: the performance cores that the mask touches.

    Without one, they are the efficiency cores, and without these the low-power cores.
    """
    allowed = frozenset(mask)
    touched = [core for core in cores if not allowed.isdisjoint(core.cpus)]
    for kind in ("performance", "efficiency"):
        chosen = tuple(core for core in touched if core.kind == kind)
        if chosen:
            return chosen
    return tuple(touched)


def thread_warnings(machine: Machine, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return what will slow training down whatever the thread count, a sentence each.

    Args:
        machine: the computer, as the process sees it.
        environ: the user's environment.
    """
    cores = choose_cores(machine.topology.cores, machine.limits.affinity)
    return (
        *_warn_of_quota(machine),
        *_warn_of_slow_cores(cores),
        *_warn_of_distant_memory(machine, cores),
        *_warn_of_isolation(machine),
        *binding_warnings(cores, environ),
    )


def _bound_by_workers(machine: Machine) -> list[tuple[int, str]]:
    """Return this worker's equal share of the cores that the job may use.

    Nothing tells whether the mask is this worker's alone or the whole job's. The share of the
    cpuset (without one: of the host) is right either way: a launcher that bound each worker
    gave it about that many cores, and workers left unbound would otherwise each take them all.
    """
    workers = machine.limits.local_workers
    if workers < 2:
        return []
    allowed = machine.limits.cpuset or machine.topology.online
    everyone = len(choose_cores(machine.topology.cores, {*allowed, *machine.limits.affinity}))
    source = machine.limits.local_workers_source
    share = everyone // workers
    return [(share, f"one of {workers} workers' share of {count_of(everyone, 'core')} ({source})")]


def _bound_by_quota(quota: float | None, workers: int) -> list[tuple[int, str]]:
    if quota is None:
        return []
    share = f", shared by {workers} workers," if workers > 1 else ""
    # A share such as 2.1 / 0.7 may come out just below the whole number that it is.
    return [(int(quota / workers + 1e-9), f"quota {_format_quota(quota)}{share}")]


def _describe_mask(machine: Machine, cores: Sequence[Core]) -> str:
    threads = count_of(len(machine.limits.affinity), "hardware thread")
    allowed = f"({threads}) in the affinity mask"
    if not machine.topology.hybrid:
        return f"{count_of(len(cores), 'core')} {allowed}"
    mask = frozenset(machine.limits.affinity)
    touched = [core for core in machine.topology.cores if not mask.isdisjoint(core.cpus)]
    left_out = len(touched) - len(cores)
    kind = cores[0].kind if cores else "performance"
    rest = f", {count_of(left_out, 'slower core')} left out" if left_out else ""
    return f"{count_of(len(cores), f'{kind} core')} {allowed}{rest}"


def _warn_of_quota(machine: Machine) -> list[str]:
    quota, workers = machine.limits.cpu_quota, machine.limits.local_workers
    if quota is None or quota / workers >= 1:
        return []
    shared = f" for {workers} workers" if workers > 1 else ""
    return [
        (
            f"the CPU quota of {_format_quota(quota)} processors{shared} "
            f"({machine.limits.cpu_quota_source}) is less than one core each: training will be "
            "throttled in every period; raise the quota"
        )
    ]


def _warn_of_slow_cores(cores: Sequence[Core]) -> list[str]:
    if not cores or cores[0].kind == "performance":
        return []
    return [
        (
            f"the affinity mask contains {cores[0].kind} cores only; "
            "training would be faster on performance cores"
        )
    ]


def _warn_of_distant_memory(machine: Machine, cores: Sequence[Core]) -> list[str]:
    nodes = {core.node for core in cores if core.node >= 0}
    allowed = machine.limits.memory_nodes
    sources = {
        node.id
        for node in machine.topology.nodes
        if node.has_memory and (not allowed or node.id in allowed)
    }
    if not nodes or not sources or nodes & sources:
        return []
    return [
        (
            f"the allowed threads are on NUMA node {format_cpu_list(nodes)}, but their memory "
            f"comes from node {format_cpu_list(sources)}: choose the same node for both, for "
            "example with numactl"
        )
    ]


def _warn_of_isolation(machine: Machine) -> list[str]:
    isolated = set(machine.limits.isolated).intersection(machine.limits.affinity)
    if len(isolated) < 2:
        return []
    return [
        (
            f"hardware threads {format_cpu_list(isolated)} are isolated: the kernel does not "
            "balance threads across them, so several may share one; leave them out of the mask"
        )
    ]


def _format_quota(quota: float) -> str:
    """Return the quota with two decimals at most, never rounded up."""
    return f"{int(quota * 100) / 100:g}" if quota >= 0.01 else f"{quota:.1g}"
