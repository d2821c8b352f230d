"""The kernel's counters before, during and after a run: throttling, steal, faults, threads."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Counters", "Threads", "Usage", "read_counters", "used_between"]


@dataclass(frozen=True)
class Counters:
    """Numbers that only grow.

    Args:
        cpu_ticks: ticks of all processors, whatever they did (proc(5), /proc/stat).
        steal_ticks: those that the hypervisor gave to others.
        periods: of the cgroup's CPU quota; None without one.
        throttled_periods: those in which the cgroup was stopped; None likewise.
        numa_miss: pages that a node gave for another one.
        numa_all: pages that were given; 0 where there is one node only.
    """

    cpu_ticks: int = 0
    steal_ticks: int = 0
    periods: int | None = None
    throttled_periods: int | None = None
    numa_miss: int = 0
    numa_all: int = 0


@dataclass(frozen=True)
class Usage:
    """What happened between two readings.

    Args:
        steal: the share of processor time that the hypervisor gave to others; None if unknown.
        throttled: the share of the quota's periods with a stop; None without a quota.
        numa_miss: the share of pages from another node than wanted; None with one node.
    """

    steal: float | None
    throttled: float | None
    numa_miss: float | None


@dataclass
class Threads:
    """Where the threads of a process were seen to run.

    Args:
        most: the largest number of threads.
        processors: how often a busy thread was seen on each hardware thread.
    """

    most: int = 0
    processors: dict[int, int] = field(default_factory=dict)
    _ticks: dict[str, int] = field(default_factory=dict)

    def look(self, process: int, root: str = "/") -> None:
        """Note where each thread that has worked since the last look ran last.

        Args:
            process: the process id.
            root: the folder that stands for "/".
        """
        folder = os.path.join(root, f"proc/{process}/task")
        try:
            names = os.listdir(folder)
        except OSError:
            return  # it has ended
        self.most = max(self.most, len(names))
        for name in names:
            # The command's name, in brackets, may hold blanks and brackets.
            values = _read(os.path.join(folder, name, "stat")).rpartition(")")[2].split()
            if len(values) < 37:
                continue
            ticks, processor = int(values[11]) + int(values[12]), int(values[36])
            if ticks > self._ticks.get(name, 0):
                self.processors[processor] = self.processors.get(processor, 0) + 1
            self._ticks[name] = ticks


def read_counters(quota_source: str = "", root: str = "/") -> Counters:
    """Read the counters of this machine and of a cgroup.

    Args:
        quota_source: the file of the CPU quota that binds, as `Limits.cpu_quota_source`; its
            cgroup's `cpu.stat` is next to it.
        root: the folder that stands for "/".
    """
    ticks = _numbers(_read(os.path.join(root, "proc/stat")).partition("\n")[0].split()[1:9])
    stat = {}
    if quota_source:
        folder = os.path.dirname(quota_source.lstrip("/"))
        stat = _pairs(_read(os.path.join(root, folder, "cpu.stat")).splitlines())
    miss = everything = count = 0
    nodes = os.path.join(root, "sys/devices/system/node")
    for name in os.listdir(nodes) if os.path.isdir(nodes) else ():
        if name.startswith("node") and name[4:].isdigit():
            count += 1
            pages = _pairs(_read(os.path.join(nodes, name, "numastat")).splitlines())
            miss += pages.get("numa_miss", 0)
            everything += pages.get("numa_miss", 0) + pages.get("numa_hit", 0)
    return Counters(
        cpu_ticks=sum(ticks),
        steal_ticks=ticks[7] if len(ticks) > 7 else 0,
        periods=stat.get("nr_periods"),
        throttled_periods=stat.get("nr_throttled"),
        numa_miss=miss,
        numa_all=everything if count > 1 else 0,
    )


def used_between(before: Counters, after: Counters) -> Usage:
    """Return what two readings differ by, as shares. Pure."""
    periods = throttled = None
    if before.periods is not None and after.periods is not None:
        periods = after.periods - before.periods
        throttled = (after.throttled_periods or 0) - (before.throttled_periods or 0)
    return Usage(
        steal=_share(after.steal_ticks - before.steal_ticks, after.cpu_ticks - before.cpu_ticks),
        throttled=None if throttled is None else _share(throttled, periods or 0),
        numa_miss=_share(after.numa_miss - before.numa_miss, after.numa_all - before.numa_all),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole > 0 else None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""  # no such counter here, or the thread has ended


def _numbers(words: Iterable[str]) -> list[int]:
    return [int(word) for word in words if word.isdigit()]


def _pairs(lines: Iterable[str]) -> dict[str, int]:
    split = (line.split() for line in lines)
    return {words[0]: int(words[1]) for words in split if len(words) == 2 and words[1].isdigit()}
