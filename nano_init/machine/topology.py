"""Group the online hardware threads into cores, sockets and NUMA nodes.

Sources: the kernel's `Documentation/admin-guide/cputopology.rst` and
`Documentation/ABI/stable/sysfs-devices-node`. Core ids are unique only within a die, so
cores are distinguished by their sibling lists alone.
"""

from __future__ import annotations

import os

from nano_init.machine.cpuinfo import count_physical_ids
from nano_init.machine.cpulist import format_cpu_list
from nano_init.machine.facts import Core, Node, Topology
from nano_init.machine.kinds import sort_kinds
from nano_init.machine.reader import parse_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nano_init.machine.cpuinfo import CpuInfo
    from nano_init.machine.reader import Reader

__all__ = ["CPU_FOLDER", "read_online", "read_topology"]

CPU_FOLDER = "sys/devices/system/cpu"
NODE_FOLDER = "sys/devices/system/node"


def read_online(reader: Reader, cpuinfo: CpuInfo) -> tuple[int, ...]:
    """Return the ids of the online hardware threads, ascending; at least one.

    Kernels before 2.6.26 have no list: then each processor's own file counts, then the lines
    of /proc/stat, then the blocks of /proc/cpuinfo.
    """
    return (
        reader.cpus(f"{CPU_FOLDER}/online")
        or _online_one_by_one(reader)
        or _parse_stat(reader.text("proc/stat") or "")
        or cpuinfo.cpus
        or (tuple(sorted(os.sched_getaffinity(0))) if reader.live else (0,))
    )


def read_topology(reader: Reader, cpuinfo: CpuInfo, online: tuple[int, ...]) -> Topology:
    """Return the cores of the online hardware threads, and where each one sits.

    Args:
        reader: the files under a root.
        cpuinfo: what /proc/cpuinfo says; it counts sockets where /sys does not.
        online: ids of the online hardware threads.
    """
    cores = _read_sibling_sets(reader, online, cpuinfo)
    firsts = [cpus[0] for cpus in cores]
    nodes = _read_nodes(reader, online)
    node_of = {cpu: node.id for node in nodes for cpu in node.cpus}
    sockets = _read_groups(reader, firsts, *_PACKAGE)
    dies = _read_groups(reader, firsts, *_DIE)
    clusters = _read_clusters(reader, cores)
    caches = _read_caches(reader, firsts, frozenset(online))
    socket_count = len({s for s in sockets.values() if s >= 0}) or max(
        1, count_physical_ids(reader.text("proc/cpuinfo") or "")
    )
    kinds, source = sort_kinds(reader, cores, cpuinfo, online, socket_count)
    return Topology(
        cores=tuple(
            Core(
                cpus=cpus,
                socket=sockets.get(cpus[0], -1),
                node=node_of.get(cpus[0], -1),
                kind=kind,
                cache=caches.get(cpus[0], ()),
                die=dies.get(cpus[0], -1),
                cluster=clusters.get(cpus[0], -1),
            )
            for cpus, kind in zip(cores, kinds, strict=True)
        ),
        nodes=nodes,
        sockets=socket_count,
        hybrid=len(set(kinds)) > 1,
        kinds_source=source,
    )


def _online_one_by_one(reader: Reader) -> tuple[int, ...]:
    cpus = reader.numbered(CPU_FOLDER, "cpu")
    return tuple(cpu for cpu in cpus if reader.text(f"{CPU_FOLDER}/cpu{cpu}/online") != "0")


def _parse_stat(text: str) -> tuple[int, ...]:
    tails = (line[3:].partition(" ")[0] for line in text.split("\n") if line.startswith("cpu"))
    return tuple(sorted({int(t) for t in tails if t.isascii() and t.isdigit() and len(t) < 6}))


def _read_sibling_sets(
    reader: Reader, online: tuple[int, ...], cpuinfo: CpuInfo
) -> list[tuple[int, ...]]:
    free = set(online)
    missing = []
    sets = []
    for cpu in online:
        if cpu not in free:
            continue
        siblings = _read_siblings(reader, cpu)
        if siblings is None:
            missing.append(cpu)  # unless the list of one of its siblings names it
            continue
        if cpu not in siblings:
            fault = f"cpu{cpu} is missing from its own sibling list"
            reader.doubt(f"{CPU_FOLDER}/cpu{cpu}/topology", fault)
        # Kernels list offline siblings too until they are unplugged.
        mine = tuple(sorted(free.intersection(siblings).union([cpu])))
        free.difference_update(mine)
        sets.append(mine)
    alone = [cpu for cpu in missing if cpu in free]
    if alone:
        _warn_of_missing_siblings(reader, cpuinfo, alone)
    return sorted([*sets, *((cpu,) for cpu in alone)])


def _read_siblings(reader: Reader, cpu: int) -> tuple[int, ...] | None:
    # "core_cpus" is "thread_siblings" under a clearer name, since Linux 5.3.
    folder = f"{CPU_FOLDER}/cpu{cpu}/topology"
    return reader.cpus(f"{folder}/core_cpus_list") or reader.cpu_set(
        f"{folder}/thread_siblings_list",
        f"{folder}/core_cpus",
        f"{folder}/thread_siblings",
    )


def _warn_of_missing_siblings(reader: Reader, cpuinfo: CpuInfo, missing: Iterable[int]) -> None:
    siblings = cpuinfo.fields.get("siblings", "")
    cores = cpuinfo.fields.get("cpu cores", "")
    if siblings != cores and reader.numbered(CPU_FOLDER, "cpu"):
        reader.warnings.append(
            f"no list of siblings for hardware threads {format_cpu_list(missing)}; each counts "
            f"as a core, although cpuinfo has {siblings} threads on {cores} cores of a socket"
        )


# The files that name a group's members, the newest first, and the one with its id.
_PACKAGE = (("package_cpus_list", "core_siblings_list", "core_siblings"), "physical_package_id")
_DIE = (("die_cpus_list",), "die_id")
_CLUSTER = (("cluster_cpus_list",), "cluster_id")
# -1 in sixteen bits: BAD_APICID in arch/x86/include/asm/apicdef.h.
_UNKNOWN_CLUSTER = 0xFFFF
_MANY_CORES = 64


def _read_groups(
    reader: Reader, cpus: Iterable[int], member_files: tuple[str, ...], id_file: str
) -> dict[int, int]:
    """Return each processor's group id, reading the files of one member a group."""
    found: dict[int, int] = {}
    for cpu in cpus:
        if cpu in found:
            continue
        folder = f"{CPU_FOLDER}/cpu{cpu}/topology"
        number = reader.number(f"{folder}/{id_file}")
        if number == _UNKNOWN_CLUSTER:
            number = -1
        if number is None:
            if not found:
                break  # this kernel does not have the file
            continue
        members = reader.cpu_set(*[f"{folder}/{name}" for name in member_files]) or ()
        for member in {cpu, *members}:
            found.setdefault(member, number)
    return found


def _read_clusters(reader: Reader, cores: list[tuple[int, ...]]) -> dict[int, int]:
    """Return each processor's cluster.

    On x86 servers every core is a cluster of its own, and nothing is to be learnt from
    hundreds of files.
    """
    first = reader.cpu_set(f"{CPU_FOLDER}/cpu{cores[0][0]}/topology/cluster_cpus_list")
    if len(cores) > _MANY_CORES and first == cores[0]:
        return {}
    return _read_groups(reader, [cpus[0] for cpus in cores], *_CLUSTER)


def _read_caches(
    reader: Reader, cpus: Iterable[int], online: frozenset[int]
) -> dict[int, tuple[int, ...]]:
    """Return the online processors that share each processor's last-level cache."""
    found: dict[int, tuple[int, ...]] = {}
    last = -1
    for cpu in cpus:
        if cpu in found:
            continue
        members = _read_cache_sharers(reader, cpu, last) if last >= 0 else None
        if members is None:
            # A core without the last level that others have: the low-power cores of Meteor Lake.
            last = _find_last_level(reader, cpu)
            members = _read_cache_sharers(reader, cpu, last) if last >= 0 else None
        if members is None:
            break
        group = tuple(sorted(online.intersection(members).union([cpu])))
        for member in group:
            found.setdefault(member, group)
    return found


def _read_cache_sharers(reader: Reader, cpu: int, index: int) -> tuple[int, ...] | None:
    folder = f"{CPU_FOLDER}/cpu{cpu}/cache/index{index}"
    return reader.cpu_set(f"{folder}/shared_cpu_list", f"{folder}/shared_cpu_map")


def _find_last_level(reader: Reader, cpu: int) -> int:
    """Return the index of the processor's cache of the highest level, or -1."""
    folder = f"{CPU_FOLDER}/cpu{cpu}/cache"
    levels = [
        (reader.number(f"{folder}/index{index}/level") or 0, index)
        for index in reader.numbered(folder, "index")
    ]
    return max(levels, default=(0, -1))[1]


def _read_nodes(reader: Reader, online: tuple[int, ...]) -> tuple[Node, ...]:
    ids = reader.cpus(f"{NODE_FOLDER}/online") or reader.numbered(NODE_FOLDER, "node")
    if not ids:
        return (Node(0, online),)  # a kernel without NUMA has no such folder
    with_memory = reader.cpus(f"{NODE_FOLDER}/has_memory")  # since Linux 3.8
    nodes = []
    free = set(online)
    for number in ids:
        folder = f"{NODE_FOLDER}/node{number}"
        cpus = free.intersection(reader.cpu_set(f"{folder}/cpulist", f"{folder}/cpumap") or ())
        free -= cpus
        has_memory = with_memory is None or number in with_memory
        distances = _read_distances(reader, f"{folder}/distance")
        nodes.append(Node(number, tuple(sorted(cpus)), distances, has_memory))
    return tuple(nodes)


def _read_distances(reader: Reader, path: str) -> tuple[int, ...]:
    words = (reader.text(path) or "").split()
    try:
        return tuple(parse_number(word) for word in words)
    except ValueError as error:
        reader.doubt(path, str(error))
        return ()
