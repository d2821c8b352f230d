"""What is known of a computer: frozen values, read once and never changed."""

from __future__ import annotations

from nano_init.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    CoreKind = Literal["performance", "efficiency", "low-power"]
    Bf16Unit = Literal["amx", "avx512", "arm"]

__all__ = ["Core", "Isa", "Limits", "Machine", "Node", "Topology"]


@frozen
class Isa:
    """The instruction set that every allowed hardware thread has.

    Args:
        arch: machine name as `uname -m` gives it, such as "x86_64" or "aarch64".
        vendor: the processor's vendor as the kernel names it.
        model: the processor's marketing name; "" if the kernel gives none.
        flags: feature flags, in the kernel's spelling, common to all allowed threads.
        level: oneDNN's ISA level ("AVX512_CORE_BF16", …), or None where oneDNN has none.
        bf16: the unit that multiplies bfloat16 natively, or None.
        amx_denied: why the kernel refuses AMX that the processor has, or None.
    """

    arch: str
    vendor: str
    model: str
    flags: frozenset[str]
    level: str | None
    bf16: Bf16Unit | None
    amx_denied: str | None = None


@frozen
class Core:
    """A physical core: the hardware threads that share it, and where it sits.

    Args:
        cpus: ids of its online hardware threads, ascending.
        socket: the kernel's number of its socket; -1 where the kernel does not know.
        node: the number of its NUMA node; -1 where its node is offline.
        kind: what it is made for; "performance" if all cores are of one kind.
        cache: the online hardware threads that share its last-level cache; () if unknown.
        die: the kernel's number of its die within the socket; -1 if unknown.
        cluster: the kernel's number of its cluster; -1 if unknown.
    """

    cpus: tuple[int, ...]
    socket: int
    node: int
    kind: CoreKind = "performance"
    cache: tuple[int, ...] = ()
    die: int = -1
    cluster: int = -1


@frozen
class Node:
    """A NUMA node; `cpus` is empty where the node is memory only.

    Args:
        id: the kernel's number of the node; the numbers may have gaps.
        cpus: ids of its online hardware threads, ascending.
        distances: relative cost of memory on each online node, 10 for its own.
        has_memory: whether it has memory of its own.
    """

    id: int
    cpus: tuple[int, ...]
    distances: tuple[int, ...] = ()
    has_memory: bool = True


@frozen
class Topology:
    """The online hardware threads, grouped.

    Args:
        cores: the physical cores, in the order of their first hardware threads.
        nodes: the online NUMA nodes, with and without processors.
        sockets: how many sockets have online cores, at least 1.
        hybrid: whether the cores are of more than one kind.
        kinds_source: the file, as seen from the root, that distinguishes the kinds; "" where
            all cores are alike.
    """

    cores: tuple[Core, ...]
    nodes: tuple[Node, ...]
    sockets: int
    hybrid: bool = False
    kinds_source: str = ""

    @property
    def online(self) -> tuple[int, ...]:
        """Return the ids of all online hardware threads, ascending."""
        return tuple(sorted(cpu for core in self.cores for cpu in core.cpus))


@frozen
class Limits:
    """What this process may use of the computer.

    Args:
        affinity: ids of the hardware threads in the affinity mask, ascending.
        cpu_quota: processors' worth of CPU time (quota divided by period), or None.
        cpu_quota_source: the file that binds, as seen from the root; "" without a quota.
        memory_bytes: the memory limit in bytes, or None.
        memory_source: the file that binds; "" without a limit.
        isolated: ids of hardware threads that the kernel keeps from ordinary scheduling.
        local_workers: processes of this job that share this host (Slurm, MPI, torchrun).
        local_workers_source: the variable that says so; "" for one.
        cpuset: ids of the hardware threads in the cgroup's cpuset; () where none is known.
        memory_nodes: the NUMA nodes that memory may come from; () where none is known.
    """

    affinity: tuple[int, ...]
    cpu_quota: float | None = None
    cpu_quota_source: str = ""
    memory_bytes: int | None = None
    memory_source: str = ""
    isolated: tuple[int, ...] = ()
    local_workers: int = 1
    local_workers_source: str = ""
    cpuset: tuple[int, ...] = ()
    memory_nodes: tuple[int, ...] = ()


@frozen
class Machine:
    """A computer as a training process sees it."""

    isa: Isa
    topology: Topology
    limits: Limits
    warnings: tuple[str, ...] = ()
