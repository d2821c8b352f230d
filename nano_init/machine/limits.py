"""What this process may use of the computer: affinity, quota, memory, neighbours."""

from __future__ import annotations

import os

from nano_init.errors import UsageError
from nano_init.machine.cgroup import read_cpuset, read_memory, read_quota
from nano_init.machine.cpulist import format_cpu_list, parse_cpu_list
from nano_init.machine.facts import Limits
from nano_init.machine.local_workers import count_local_workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nano_init.machine.reader import Reader

__all__ = ["read_affinity", "read_limits"]

_STATUS = "proc/self/status"
_ISOLATED = "sys/devices/system/cpu/isolated"


def read_limits(
    reader: Reader, environ: Mapping[str, str], online: tuple[int, ...], affinity: tuple[int, ...]
) -> Limits:
    """Return the limits of this process.

    Args:
        reader: the files under a root.
        environ: the environment; a launcher's variables tell how many workers share the host.
        online: ids of the online hardware threads.
        affinity: ids of the hardware threads in the affinity mask, as `read_affinity` gives.
    """
    here = frozenset(online)
    quota, quota_source = read_quota(reader)
    memory, memory_source = read_memory(reader, _read_memory_total(reader))
    workers, workers_source, doubts = count_local_workers(environ)
    reader.warnings.extend(doubts)
    return Limits(
        affinity=affinity,
        cpu_quota=quota,
        cpu_quota_source=quota_source,
        memory_bytes=memory,
        memory_source=memory_source,
        isolated=tuple(cpu for cpu in _read_isolated(reader) if cpu in here),
        local_workers=workers,
        local_workers_source=workers_source,
        cpuset=tuple(cpu for cpu in read_cpuset(reader) if cpu in here),
        memory_nodes=_read_status_list(reader, "Mems_allowed_list"),
    )


def read_affinity(reader: Reader, online: tuple[int, ...]) -> tuple[int, ...]:
    """Return the online hardware threads in the affinity mask, ascending; at least one.

    On this computer the kernel is asked (sched_getaffinity(2)), whose answer is the mask
    within the cpuset. For a recorded machine /proc/self/status says the same; without it
    the cpuset counts, and without that all online threads.
    """
    here = frozenset(online)
    if reader.live and hasattr(os, "sched_getaffinity"):
        asked = os.sched_getaffinity(0)
        reader.log["sched_getaffinity(0)"] = format_cpu_list(asked)
        mask = tuple(sorted(here.intersection(asked)))
        # lxcfs mounts a /proc and /sys with other processors over the kernel's own.
        return mask or online
    allowed = _read_status_list(reader, "Cpus_allowed_list")
    mask = tuple(cpu for cpu in allowed if cpu in here)
    if allowed and not mask:
        reader.doubt(_STATUS, "none of its Cpus_allowed_list is online")
    return mask or tuple(cpu for cpu in read_cpuset(reader) if cpu in here) or online


def _read_status_list(reader: Reader, key: str) -> tuple[int, ...]:
    for line in (reader.text(_STATUS) or "").split("\n"):
        name, _, value = line.partition(":")
        if name == key:
            try:
                return parse_cpu_list(value)
            except UsageError as error:
                reader.doubt(_STATUS, f"its {key}: {error}")
    return ()


def _read_memory_total(reader: Reader) -> int | None:
    for line in (reader.text("proc/meminfo") or "").split("\n"):
        words = line.split()
        if len(words) > 1 and words[0] == "MemTotal:" and _is_number(words[1]):
            return int(words[1]) * 1024
    return None


def _read_isolated(reader: Reader) -> tuple[int, ...]:
    """Return the processors that the kernel keeps from ordinary scheduling.

    `isolcpus=` may start with flags, "domain,managed_irq,2-7" (kernel-parameters.txt).
    """
    isolated = reader.cpus(_ISOLATED)  # since Linux 4.2
    if isolated is not None:
        return isolated
    for word in (reader.text("proc/cmdline") or "").split():
        name, _, value = word.partition("=")
        if name == "isolcpus":
            pieces = [piece for piece in value.split(",") if piece[:1].isdigit()]
            try:
                return parse_cpu_list(",".join(pieces))
            except UsageError as error:
                reader.doubt("proc/cmdline", f"its isolcpus: {error}")
    return ()


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20
