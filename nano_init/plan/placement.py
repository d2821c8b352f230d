"""Which cores, and whose memory, each worker of a job gets. Pure: facts in, places out."""

from __future__ import annotations

from nano_init.errors import UsageError
from nano_init.frozen import frozen
from nano_init.machine.cpulist import format_cpu_list
from nano_init.machine.facts import Limits, Machine
from nano_init.plan.threads import choose_cores
from nano_init.text import count_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nano_init.machine.facts import Core

__all__ = ["Place", "Placement", "machine_at", "parse_workers", "place_workers"]

# With fewer cores, a separate worker for each last-level cache loses more time to all-reduce
# than the cache saves.
_CORES_OF_A_CACHE_GROUP = 8
_MOST_WORKERS = 4096


@frozen
class Place:
    """Where one worker of this host runs.

    Args:
        cpus: the hardware threads that it may run on, ascending.
        cores: how many cores they are.
        nodes: the NUMA nodes that these are on; () where it is not bound to memory.
    """

    cpus: tuple[int, ...]
    cores: int
    nodes: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """Return the place in a few words."""
        count = count_of(self.cores, "core")
        memory = f", memory of node {format_cpu_list(self.nodes)}" if self.nodes else ""
        return f"cpus {format_cpu_list(self.cpus)} ({count}{memory})"


@frozen
class Placement:
    """The places of a host's workers, and why there are so many.

    Args:
        places: one for each worker, in their order.
        reason: one sentence.
        is_exclusive: no two places share a core.
    """

    places: tuple[Place, ...]
    reason: str
    is_exclusive: bool = True


def parse_workers(text: str) -> int | None:
    """Return a number of workers, or None for "auto".

    Raises:
        UsageError: the text is neither.
    """
    if text == "auto":
        return None
    if text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= _MOST_WORKERS:
        return int(text)
    raise UsageError(
        f"--nproc-per-node is {text[:40]!r}; give a whole number from 1 to {_MOST_WORKERS}, or auto"
    )


def place_workers(
    machine: Machine,
    workers: int | None,
    cap: int | None = None,
    *,
    slot: tuple[int, int] = (0, 1),
    oversubscribe: bool = False,
) -> Placement:
    """Assign separate cores to each worker of this host.

    Cores are dealt out in the order of socket, NUMA node, last-level cache, so that a worker
    is on as few of each as its number of cores allows; each gets as many as every other, the
    first ones the cores that are left over.

    Args:
        machine: the computer, as the launcher sees it.
        workers: how many; None takes one per NUMA node, or on a single node one for each
            last-level cache that enough cores share.
        cap: the most cores that the user wants used, or None.
        slot: this launcher's number among those of the job on this host, and how many there
            are: it then takes its own part of the cores, unless it is bound to them already.
        oversubscribe: more workers than cores are allowed; they are then left unbound.

    Raises:
        UsageError: there are fewer cores than workers.
    """
    cores = _own_part(_sorted_cores(machine), slot, machine)
    quota = machine.limits.cpu_quota
    usable = _usable(len(cores), None if quota is None else quota / slot[1], cap)
    groups, reason = _choose_groups(cores, workers, usable)
    if len(groups) > usable:
        if not oversubscribe:
            raise UsageError(
                f"--nproc-per-node {len(groups)} is more than the {count_of(usable, 'core')} "
                "usable here; use fewer workers, or let them share cores with --oversubscribe"
            )
        everything = _place(cores, machine, is_bound=False)
        return Placement((everything,) * len(groups), f"{reason}, sharing all cores", False)
    each = usable // len(groups)
    places = tuple(
        _place(group if cap is None and quota is None else group[:each], machine, is_bound=True)
        for group in groups
    )
    return Placement(places, reason)


def _usable(cores: int, quota: float | None, cap: int | None) -> int:
    if quota is not None:
        cores = max(1, min(cores, int(quota + 1e-9)))
    return cores if cap is None else min(cores, cap)


def machine_at(machine: Machine, placement: Placement, index: int, launchers: int = 1) -> Machine:
    """Return the machine as a worker at its place will see it.

    Args:
        machine: the computer, as the launcher sees it.
        placement: the places of this host's workers.
        index: the worker's number among them.
        launchers: how many launchers of the job share this host, and its CPU quota.
    """
    limits = machine.limits
    place, workers = placement.places[index], len(placement.places)
    quota = limits.cpu_quota
    sharers = launchers * workers
    is_shared = not placement.is_exclusive
    seen = Limits(
        affinity=place.cpus,
        # The share that every worker gets, unless the plan divides among those that share.
        cpu_quota=None if quota is None else quota / (launchers if is_shared else sharers),
        cpu_quota_source=limits.cpu_quota_source,
        memory_bytes=limits.memory_bytes,
        memory_source=limits.memory_source,
        isolated=limits.isolated,
        local_workers=workers if is_shared else 1,
        local_workers_source="--nproc-per-node" if is_shared else "",
        cpuset=place.cpus,
        memory_nodes=place.nodes or limits.memory_nodes,
    )
    return Machine(machine.isa, machine.topology, seen, machine.warnings)


def _sorted_cores(machine: Machine) -> list[Core]:
    cores = choose_cores(machine.topology.cores, machine.limits.affinity)
    return sorted(cores, key=lambda c: (c.socket, c.node, c.die, c.cache[:1], c.cpus))


def _own_part(cores: list[Core], slot: tuple[int, int], machine: Machine) -> list[Core]:
    number, count = slot
    allowed = machine.limits.cpuset or machine.topology.online
    everyone = len(choose_cores(machine.topology.cores, allowed))
    # A launcher that has about its share of the cores was bound to them by who started it.
    if count < 2 or len(cores) <= -(-everyone // count):
        return cores
    return _split(cores, count)[number] or cores


def _choose_groups(
    cores: list[Core], workers: int | None, usable: int
) -> tuple[list[list[Core]], str]:
    nodes = _grouped(cores, lambda core: core.node)
    if workers is not None:
        return _deal(nodes, workers), f"{count_of(workers, 'worker')}, as requested"
    caches = _grouped(cores, lambda core: core.cache)
    if len(nodes) > 1:
        groups, what = nodes, "one per NUMA node"
    elif len(caches) > 1 and min(map(len, caches)) >= _CORES_OF_A_CACHE_GROUP:
        groups, what = caches, "one per last-level cache"
    else:
        groups, what = [cores], _explain_one(caches)
    if len(groups) > usable:
        return _deal(nodes, usable), f"{count_of(usable, 'worker')}: as many as usable cores"
    return groups, f"{count_of(len(groups), 'worker')}: {what}"


def _explain_one(caches: list[list[Core]]) -> str:
    """Return why the cores of one NUMA node are best left to one process."""
    if sum(map(len, caches)) == 1:
        return "there is one core"
    if len(caches) > 1:
        least = min(map(len, caches))
        return (
            f"the smallest of the {len(caches)} last-level caches serves "
            f"{count_of(least, 'core')}; with fewer than {_CORES_OF_A_CACHE_GROUP} cores a worker "
            "loses more time to all-reduce than it gains"
        )
    if not caches[0][0].cache:
        return "which cores share a last-level cache is not known here"
    # benchmarks/README.md, "Workers": the model that loses most by it.
    return (
        "all cores share one last-level cache, where two workers can be slower than one process "
        "(0.65 times as fast for an MLP); try --nproc-per-node 2"
    )


def _grouped(cores: Sequence[Core], key: object) -> list[list[Core]]:
    groups: dict[object, list[Core]] = {}
    for core in cores:
        groups.setdefault(key(core), []).append(core)  # type: ignore[operator]
    return list(groups.values())


def _deal(nodes: list[list[Core]], workers: int) -> list[list[Core]]:
    """Return the cores of each worker: parts of one node where each gets several workers."""
    if workers % len(nodes) == 0:
        per_node = workers // len(nodes)
        return [part for node in nodes for part in _split(node, per_node)]
    if len(nodes) % workers == 0:
        step = len(nodes) // workers
        starts = range(0, len(nodes), step)
        return [[core for node in nodes[i : i + step] for core in node] for i in starts]
    return _split([core for node in nodes for core in node], workers)


def _split(cores: list[Core], parts: int) -> list[list[Core]]:
    size, left = divmod(len(cores), parts)
    starts = [i * size + min(i, left) for i in range(parts + 1)]
    return [cores[a:b] for a, b in zip(starts, starts[1:])]  # noqa: RUF007, B905


def _place(cores: Sequence[Core], machine: Machine, *, is_bound: bool) -> Place:
    mask = frozenset(machine.limits.affinity)
    cpus = tuple(sorted(cpu for core in cores for cpu in core.cpus if cpu in mask))
    return Place(cpus, len(cores), _memory_nodes(cores, machine) if is_bound else ())


def _memory_nodes(cores: Sequence[Core], machine: Machine) -> tuple[int, ...]:
    """Return the nodes whose memory is near; () where there is nothing to choose from."""
    allowed = machine.limits.memory_nodes
    sources = {
        node.id
        for node in machine.topology.nodes
        if node.has_memory and (not allowed or node.id in allowed)
    }
    near = sources.intersection(core.node for core in cores)
    return tuple(sorted(near)) if len(near) < len(sources) else ()
