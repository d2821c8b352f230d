"""Tell performance cores from efficiency cores.

The order of the sources is hwloc's (`hwloc/topology-linux.c`, `hwloc_linux_cpukinds_*`): what
the kernel says outright, then its capacities, then what firmware says of the speeds. Speeds
alone need a clear gap: with Turbo Boost Max 3.0 the best of equal cores are some per cent
faster than the rest.
"""

from __future__ import annotations

from itertools import pairwise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nano_init.machine.cpuinfo import CpuInfo
    from nano_init.machine.facts import CoreKind
    from nano_init.machine.reader import Reader

__all__ = ["sort_kinds", "split_at_gap"]

_CPU_FOLDER = "sys/devices/system/cpu"

# One list of processors for each kind of core, from the PMU drivers (Linux 5.13 and newer).
_PMU_LISTS: tuple[tuple[str, CoreKind], ...] = (
    ("sys/devices/cpu_core/cpus", "performance"),
    ("sys/devices/cpu_atom/cpus", "efficiency"),
    ("sys/devices/cpu_lowpower/cpus", "low-power"),
)

_MOST_CORES = 64

# The file with a core's speed, and by which factor the slowest performance core must beat the
# fastest efficiency core. Measured in recordings: 1.36 to 1.64 between kinds (Arm, Intel),
# up to 1.05 among equals.
_SPEEDS = (
    ("cpu_capacity", 1.2),
    ("acpi_cppc/highest_perf", 1.2),
    ("cpufreq/cpuinfo_max_freq", 1.15),
)


def sort_kinds(
    reader: Reader,
    cores: Sequence[tuple[int, ...]],
    cpuinfo: CpuInfo,
    online: Sequence[int],
    sockets: int,
) -> tuple[list[CoreKind], str]:
    """Return the kind of each core, and the file that distinguishes them.

    Args:
        reader: the files under a root.
        cores: the online hardware threads of each core.
        cpuinfo: what /proc/cpuinfo says.
        online: ids of all online hardware threads.
        sockets: how many sockets there are.

    Returns:
        A kind for each core, and the path of the source; "" where all cores are alike.
    """
    kinds = _read_pmu_lists(reader, cores)
    if kinds is not None:
        return kinds, f"/{_PMU_LISTS[0][0]}" if len(set(kinds)) > 1 else ""
    # No hybrid has two sockets or more than 32 cores, and on servers with hundreds of cores
    # these files are many; on Arm highest_perf may even be a slow question to the firmware.
    # AMD's dense cores (Zen 4c, Zen 5c) are the same cores at two thirds of the clock rate, and
    # never fewer than the others: all at their pace do more than the others alone.
    is_amd = cpuinfo.fields.get("vendor_id") == "AuthenticAMD"
    if sockets == 1 and 1 < len(cores) <= _MOST_CORES and not is_amd:
        for name, gap in _SPEEDS:
            kinds = _split_by_speed(reader, cores, name, gap)
            if kinds is not None:
                return kinds, f"/{_CPU_FOLDER}/cpu*/{name}"
        if _is_smt_uneven(reader, cores, cpuinfo, online):
            uneven: list[CoreKind] = [
                "performance" if len(cpus) > 1 else "efficiency" for cpus in cores
            ]
            return uneven, f"/{_CPU_FOLDER}/cpu*/topology"
    return ["performance"] * len(cores), ""


def split_at_gap(speeds: Sequence[int], factor: float) -> int | None:
    """Return the lowest speed of the fast group, or None if the speeds are of one group.

    Args:
        speeds: one positive number for each core.
        factor: how much faster the slowest of the fast group must be than the fastest of the
            slow group.
    """
    distinct = sorted(set(speeds))
    steps = [(high / low, high) for low, high in pairwise(distinct)]
    widest, lowest_fast = max(steps, default=(0.0, 0))
    return lowest_fast if widest >= factor else None


def _read_pmu_lists(reader: Reader, cores: Sequence[tuple[int, ...]]) -> list[CoreKind] | None:
    lists = {kind: reader.cpus(path) for path, kind in _PMU_LISTS}
    if not lists["performance"]:
        return None
    kind_of = {cpu: kind for kind, cpus in lists.items() for cpu in cpus or ()}
    return [kind_of.get(cpus[0], "performance") for cpus in cores]


def _split_by_speed(
    reader: Reader, cores: Sequence[tuple[int, ...]], name: str, gap: float
) -> list[CoreKind] | None:
    speeds = []
    for cpus in cores:
        speed = reader.number(f"{_CPU_FOLDER}/cpu{cpus[0]}/{name}")
        if not speed or speed < 0:
            return None
        speeds.append(speed)
    threshold = split_at_gap(speeds, gap)
    if threshold is None:
        return None
    return ["performance" if speed >= threshold else "efficiency" for speed in speeds]


def _is_smt_uneven(
    reader: Reader,
    cores: Sequence[tuple[int, ...]],
    cpuinfo: CpuInfo,
    online: Sequence[int],
) -> bool:
    """Tell whether a first group of cores has SMT and a second, later group has not.

    That is how Intel's hybrids look to a virtual machine that shows no speeds. A single
    offline sibling, or an odd number of virtual processors, must not pass for it.
    """
    single = [cpus[0] for cpus in cores if len(cpus) == 1]
    several = [cpus[0] for cpus in cores if len(cpus) > 1]
    present = reader.cpus(f"{_CPU_FOLDER}/present")
    return (
        cpuinfo.fields.get("vendor_id") == "GenuineIntel"
        and "Xeon" not in cpuinfo.fields.get("model name", "")
        and present == tuple(online)
        and len(single) > 1
        and len(several) > 0
        and min(single) > max(several)
    )
