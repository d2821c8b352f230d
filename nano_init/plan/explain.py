"""Explain the source of one fact. Pure: what the sources said in, an explanation out."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from nano_init.errors import UsageError
from nano_init.frozen import frozen
from nano_init.machine.cpulist import format_cpu_list
from nano_init.machine.local_workers import WORKER_VARIABLES
from nano_init.plan.threads import choose_cores, count_threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from nano_init.machine.facts import CoreKind, Machine

__all__ = ["FACTS", "Explanation", "explain"]

_LONGEST = 400
_MOST_LINES = 16


@frozen
class Explanation:
    """Where a fact comes from.

    Args:
        name: the fact.
        value: its value, as text.
        said: (source, what it said) of every source that was consulted, in reading order;
            the text is "absent" where a source does not exist.
        conclusion: one sentence saying how the value follows.
    """

    name: str
    value: str
    said: tuple[tuple[str, str], ...]
    conclusion: str


@frozen
class _Fact:
    sources: tuple[str, ...]
    value: Callable[[Machine], object]
    rule: str
    lines: tuple[str, ...] = ()


def explain(
    name: str,
    machine: Machine,
    log: Mapping[str, str | None],
    environ: Mapping[str, str],
    cap: int | None = None,
    cap_source: str = "--threads",
) -> Explanation:
    """Return every source of a fact, what it said, and how the value follows.

    Args:
        name: one of FACTS, or a variable that stands for a number of threads.
        machine: the machine, as `probe_with_log` returns it.
        log: what each source said, as `probe_with_log` returns it.
        environ: the environment that the machine was probed with.
        cap: the most cores that the user wants used, or None.
        cap_source: the option or variable that says so.

    Raises:
        UsageError: there is no such fact.
    """
    key = _VARIABLES.get(name, name)
    if key not in FACTS:
        raise UsageError(f"{name!r} cannot be explained; choose one of {', '.join(FACTS)}")
    fact = _FACTS[key]
    said = list(_collect(fact, log))
    said += [(v, environ.get(v, "unset")) for v in fact.sources if v.isupper() and (v in environ)]
    if key != "usable_cores":
        return Explanation(name, _format(fact.value(machine)), tuple(said), fact.rule)
    if cap is not None:
        said.append((cap_source, str(cap)))
    count = count_threads(machine, cap, cap_source)
    return Explanation(name, str(count.usable_cores), tuple(said), count.reason)


def _collect(fact: _Fact, log: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    """Give the sources of a fact; equal answers of many processors are given once."""
    groups: dict[tuple[str, str], list[int]] = {}
    for path, text in log.items():
        if not any(fnmatchcase(path, pattern) for pattern in fact.sources):
            continue
        source = path if "(" in path or path.startswith(("hw.", "machdep.")) else f"/{path}"
        numbered = re.sub(r"/cpu\d+/", "/cpu*/", source)
        number = re.search(r"/cpu(\d+)/", source)
        answer = "absent" if text is None else _shorten(text, fact.lines)
        groups.setdefault((numbered, answer), []).extend([int(number[1])] if number else [])
    answers = _merge_many(groups)
    for (source, answer), cpus in answers.items():
        one = str(cpus[0]) if len(cpus) == 1 else f"{{{format_cpu_list(cpus)}}}"
        yield source.replace("/cpu*/", f"/cpu{one}/") if cpus else source, answer


def _merge_many(groups: dict[tuple[str, str], list[int]]) -> dict[tuple[str, str], list[int]]:
    """Put the answers of one file into one line where there are too many of them."""
    answers: dict[str, list[str]] = {}
    for source, answer in groups:
        answers.setdefault(source, []).append(answer)
    merged: dict[tuple[str, str], list[int]] = {}
    for (source, answer), cpus in groups.items():
        different = answers[source]
        if len(different) > _MOST_LINES:
            answer = f"{len(different)} different answers: {different[0]} to {different[-1]}"
        merged.setdefault((source, answer), []).extend(cpus)
    return merged


def _shorten(text: str, keys: tuple[str, ...]) -> str:
    lines = [line.strip() for line in text.split("\n")]
    chosen = [line for line in lines if line.partition(":")[0].strip() in keys] if keys else []
    if keys == _ISA_LINES:
        chosen = [" ".join(filter(_TELLING_FLAG.match, line.split())) for line in chosen]
    cgroups = [line for line in lines if _CGROUP_LINE.match(line)]
    kept = dict.fromkeys(chosen or cgroups or lines)
    flat = "; ".join(" ".join(line.split()) for line in kept if line)
    return flat if len(flat) <= _LONGEST else flat[: _LONGEST - 1] + "…"


def _format(value: object) -> str:
    if value is None:
        return "none"
    return str(value)


def _kind_cpus(machine: Machine, *kinds: CoreKind) -> str:
    if not machine.topology.hybrid and "performance" not in kinds:
        return "none"
    cpus = [cpu for core in machine.topology.cores if core.kind in kinds for cpu in core.cpus]
    return format_cpu_list(cpus) or "none"


_CPU = "sys/devices/system/cpu"
_ONLINE = (f"{_CPU}/online", f"{_CPU}/cpu*/online", "proc/stat")
_SIBLINGS = tuple(
    f"{_CPU}/cpu*/topology/{name}"
    for name in ("core_cpus_list", "thread_siblings_list", "core_cpus", "thread_siblings")
)
_PACKAGE_FILES = (
    "physical_package_id",
    "package_cpus_list",
    "core_siblings_list",
    "core_siblings",
)
_KINDS = (
    "sys/devices/cpu_*/cpus",
    f"{_CPU}/cpu*/cpu_capacity",
    f"{_CPU}/cpu*/acpi_cppc/highest_perf",
    f"{_CPU}/cpu*/cpufreq/cpuinfo_max_freq",
    # Without any of these, the cores' SMT decides, unless processors are offline.
    *_SIBLINGS,
    f"{_CPU}/present",
    "hw.perflevel?.physicalcpu",
)
_AFFINITY = ("sched_getaffinity(0)", "proc/self/status", "psutil")
_CPUSET = ("*/cpuset.cpus*", "*/cpuset.effective_cpus")
_CGROUP = ("proc/self/cgroup", "proc/self/mountinfo")
_QUOTA = (*_CGROUP, "*/cpu.max", "*/cpu.cfs_quota_us", "*/cpu.cfs_period_us")
# The hierarchies that can limit: v2, and of v1 those with one of these controllers.
_CGROUP_LINE = re.compile(
    r"\d+:(|.*\b(cpu|cpuset|memory)\b.*):/"  # /proc/self/cgroup
    r"|\d+ .* - (cgroup2 |cgroup .*[ ,](cpu|cpuset|memory)\b)"  # /proc/self/mountinfo
)
_ARCH = "proc/sys/kernel/arch"
_CPUINFO = ("proc/cpuinfo", "cpuinfo", "machdep.cpu.*", "hw.optional.*")
# The flags that oneDNN's levels and the bfloat16 units ask for, and Arm's of vectors.
_TELLING_FLAG = re.compile(r"avx|amx_|sse4_1$|sve|bf16$|i8mm$")
_ISA_LINES = ("flags", "Features", "features", "isa")

_FACTS = {
    "usable_cores": _Fact(
        (*_ONLINE, *_AFFINITY, *_CPUSET, *_KINDS, *_QUOTA, *WORKER_VARIABLES),
        lambda machine: len(choose_cores(machine.topology.cores, machine.limits.affinity)),
        "",
        ("Cpus_allowed_list",),
    ),
    "affinity": _Fact(
        (*_AFFINITY, *_ONLINE, *_CPUSET),
        lambda machine: format_cpu_list(machine.limits.affinity),
        "the kernel's answer, which is the affinity mask within the cpuset; for a recorded "
        "machine Cpus_allowed_list, else the cpuset, else all online threads",
        ("Cpus_allowed_list",),
    ),
    "cpu_quota": _Fact(
        _QUOTA,
        lambda machine: machine.limits.cpu_quota,
        "the least quota divided by its period, from this process's cgroup up to the mount's root",
    ),
    "memory_bytes": _Fact(
        (*_CGROUP, "*/memory.max", "*/memory.high", "*/memory.limit_in_bytes", "proc/meminfo"),
        lambda machine: machine.limits.memory_bytes,
        "the least limit from this process's cgroup up to the mount's root; a limit that is "
        "not below the machine's memory is none",
        ("MemTotal",),
    ),
    "local_workers": _Fact(
        WORKER_VARIABLES,
        lambda machine: machine.limits.local_workers,
        "the innermost launcher's number of processes on this host; 1 without a launcher",
    ),
    "isolated": _Fact(
        (f"{_CPU}/isolated", "proc/cmdline"),
        lambda machine: format_cpu_list(machine.limits.isolated) or "none",
        "the kernel's list, else isolcpus= on its command line",
    ),
    "threads": _Fact(
        _ONLINE,
        lambda machine: len(machine.topology.online),
        "the number of online hardware threads",
    ),
    "cores": _Fact(
        (*_ONLINE, *_SIBLINGS),
        lambda machine: len(machine.topology.cores),
        "the number of distinct sets of siblings among the online hardware threads; "
        "the files of one sibling count for the others",
    ),
    "sockets": _Fact(
        (*(f"{_CPU}/cpu*/topology/{name}" for name in _PACKAGE_FILES), "proc/cpuinfo"),
        lambda machine: machine.topology.sockets,
        "the number of distinct package ids of online hardware threads, -1 being none; else of "
        "the physical ids in cpuinfo, at least 1",
        ("physical id",),
    ),
    "numa_nodes": _Fact(
        ("sys/devices/system/node/*",),
        lambda machine: sum(1 for node in machine.topology.nodes if node.cpus) or 1,
        "the number of online nodes with online processors, at least 1; a node of memory alone "
        "does not count",
    ),
    "performance_cpus": _Fact(
        _KINDS,
        lambda machine: _kind_cpus(machine, "performance"),
        "the kernel's list of each kind, else a clear gap between the cores' capacities, "
        "performances or frequencies, else SMT on the first cores only",
    ),
    "efficiency_cpus": _Fact(
        _KINDS,
        lambda machine: _kind_cpus(machine, "efficiency", "low-power"),
        "all online hardware threads but the performance cores'",
    ),
    "isa_level": _Fact(
        (*_CPUINFO, _ARCH, "arch_prctl*", "nano_init/xcomp_supp"),
        lambda machine: machine.isa.level,
        "oneDNN's highest level whose flags every allowed processor has; AMX only if the kernel "
        "supports its tile state (bit 18)",
        _ISA_LINES,
    ),
    "bf16": _Fact(
        (*_CPUINFO, _ARCH, "arch_prctl*", "nano_init/xcomp_supp"),
        lambda machine: machine.isa.bf16,
        "amx or avx512 if oneDNN's level has bfloat16 instructions, arm if the flag bf16 is there",
        _ISA_LINES,
    ),
    "vendor": _Fact(
        _CPUINFO,
        lambda machine: machine.isa.vendor,
        "the kernel's vendor_id, or the name that belongs to the implementer's number",
        ("vendor_id", "CPU implementer", "uarch"),
    ),
    "model": _Fact(
        _CPUINFO,
        lambda machine: machine.isa.model,
        "the kernel's model name, or the name that belongs to the part's number",
        ("model name", "CPU implementer", "CPU part", "cpu", "uarch"),
    ),
}

FACTS = tuple(_FACTS)

_VARIABLES = {
    "OMP_NUM_THREADS": "usable_cores",
    "TF_NUM_INTRAOP_THREADS": "usable_cores",
    "TF_NUM_INTEROP_THREADS": "usable_cores",
    "precision": "bf16",
}
