"""Know a computer that does not run Linux: macOS by sysctl, others by psutil and py-cpuinfo.

These systems have no affinity mask that binds (macOS) or no /proc to read; a probe here
starts subprocesses and may take a second.
"""

from __future__ import annotations

import os
import sys

from nano_init.machine.cpulist import format_cpu_list
from nano_init.machine.facts import Core, Isa, Limits, Machine, Node, Topology
from nano_init.machine.isa import name_level
from nano_init.machine.local_workers import count_local_workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nano_init.machine.facts import Bf16Unit, CoreKind

    Log = dict[str, str | None]

__all__ = ["parse_sysctl", "probe_macos", "probe_others", "probe_portably"]

# Apple, "Determining system capabilities" (developer.apple.com); sysctl(3).
_SYSCTL_NAMES = (
    "machdep.cpu.brand_string",
    "machdep.cpu.vendor",
    "machdep.cpu.features",
    "machdep.cpu.leaf7_features",
    "hw.packages",
    "hw.physicalcpu",
    "hw.logicalcpu",
    "hw.nperflevels",
    "hw.perflevel0.physicalcpu",
    "hw.perflevel1.physicalcpu",
    "hw.optional.arm.FEAT_BF16",
    "hw.optional.arm.FEAT_I8MM",
    "hw.optional.arm.FEAT_DotProd",
    "hw.optional.arm.FEAT_SME",
)
_ARM_FLAGS = {
    "FEAT_BF16": "bf16",
    "FEAT_I8MM": "i8mm",
    "FEAT_DotProd": "asimddp",
    "FEAT_SME": "sme",
}
# The kernel of macOS spells these differently from that of Linux.
_SPELLINGS = {"avx1.0": "avx", "sse4.1": "sse4_1", "sse4.2": "sse4_2", "avx512vnni": "avx512_vnni"}


def probe_portably(environ: Mapping[str, str], platform: str = sys.platform) -> tuple[Machine, Log]:
    """Return this computer on a system other than Linux, and what each source said.

    Args:
        environ: the environment; a launcher's variables tell how many workers share the host.
        platform: the system's name as `sys.platform` has it.
    """
    if platform == "darwin":
        return probe_macos(environ, _run_sysctl, os.uname().machine)
    return probe_others(environ, _ask_psutil, _ask_cpuinfo)


def probe_macos(
    environ: Mapping[str, str], run: Callable[[Sequence[str]], str], arch: str
) -> tuple[Machine, Log]:
    """Return this Mac.

    macOS lets no process choose its processors, so the ids are made up: performance cores
    come first. A Python that runs under Rosetta says x86_64, but its processor is Apple's.

    Args:
        environ: the environment.
        run: runs a command, and returns what it wrote.
        arch: the machine name, as `uname -m` gives it.
    """
    command = ["/usr/sbin/sysctl", *_SYSCTL_NAMES]
    said: Log = {}
    warnings: list[str] = []
    try:
        said.update(parse_sysctl(run(command)))
    except OSError as error:
        warnings.append(f"{command[0]} is ignored: {error}")
    physical = _count(said, "hw.physicalcpu") or os.cpu_count() or 1
    logical = max(physical, _count(said, "hw.logicalcpu"))
    fast = _count(said, "hw.perflevel0.physicalcpu")
    if not 0 < fast < physical or _count(said, "hw.nperflevels") < 2:
        fast = physical
    model = said.get("machdep.cpu.brand_string") or ""
    arch = "arm64" if model.startswith("Apple") else arch
    flags = _collect_flags(said)
    isa = _describe_isa(
        arch, "Apple" if arch == "arm64" else _text(said, "machdep.cpu.vendor"), model, flags
    )
    topology = _lay_out(physical, logical, fast, max(1, _count(said, "hw.packages")))
    return _assemble(isa, topology, topology.online, environ, warnings), said


def probe_others(
    environ: Mapping[str, str],
    ask_psutil: Callable[[], tuple[int, int, Sequence[int]]],
    ask_cpuinfo: Callable[[], Mapping[str, object]],
) -> tuple[Machine, Log]:
    """Return this computer as psutil and py-cpuinfo see it.

    Args:
        environ: the environment.
        ask_psutil: returns the number of cores, of hardware threads, and the affinity mask.
        ask_cpuinfo: returns what py-cpuinfo's `get_cpu_info` does.
    """
    said: Log = {}
    warnings: list[str] = []
    physical = logical = os.cpu_count() or 1
    mask: Sequence[int] = ()
    info: Mapping[str, object] = {}
    try:
        physical, logical, mask = ask_psutil()
        said["psutil"] = f"{physical} cores, {logical} threads, mask {format_cpu_list(mask)}"
    except (ImportError, OSError, RuntimeError) as error:
        warnings.append(f"psutil is ignored: {error}")
    try:
        info = ask_cpuinfo()
        said["cpuinfo"] = str(info.get("brand_raw", ""))
    except Exception as error:  # noqa: BLE001 - py-cpuinfo raises whatever its parsers meet
        warnings.append(f"py-cpuinfo is ignored: {error}")
    listed = info.get("flags")
    flags = frozenset(str(flag) for flag in listed) if isinstance(listed, list) else frozenset()
    arch = {"X86_64": "x86_64", "ARM_8": "arm64"}.get(str(info.get("arch", "")), "")
    isa = _describe_isa(
        arch, str(info.get("vendor_id_raw", "")), str(info.get("brand_raw", "")), flags
    )
    topology = _lay_out(physical, logical, physical, 1)
    allowed = tuple(cpu for cpu in topology.online if cpu in mask) or topology.online
    return _assemble(isa, topology, allowed, environ, warnings), said


def parse_sysctl(text: str) -> dict[str, str]:
    """Return the values of "name: value" lines."""
    pairs = (line.partition(":") for line in text.split("\n"))
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def _assemble(
    isa: Isa,
    topology: Topology,
    affinity: tuple[int, ...],
    environ: Mapping[str, str],
    warnings: list[str],
) -> Machine:
    workers, source, doubts = count_local_workers(environ)
    limits = Limits(affinity, local_workers=workers, local_workers_source=source)
    return Machine(isa, topology, limits, (*warnings, *doubts))


def _lay_out(physical: int, logical: int, fast: int, sockets: int) -> Topology:
    """Return cores of equal size with consecutive ids, the performance cores first."""
    physical = max(1, physical)
    threads = max(1, logical // physical)
    kinds: list[CoreKind] = ["performance" if n < fast else "efficiency" for n in range(physical)]
    cores = tuple(
        Core(tuple(range(n * threads, (n + 1) * threads)), n * sockets // physical, 0, kind)
        for n, kind in enumerate(kinds)
    )
    online = tuple(cpu for core in cores for cpu in core.cpus)
    hybrid = fast < physical
    source = "sysctl hw.perflevel0.physicalcpu" if hybrid else ""
    return Topology(cores, (Node(0, online),), sockets, hybrid, source)


def _describe_isa(arch: str, vendor: str, model: str, flags: frozenset[str]) -> Isa:
    level = None if arch == "arm64" else name_level(flags)
    unit: Bf16Unit | None = "arm" if arch == "arm64" and "bf16" in flags else None
    if level in ("AVX512_CORE_BF16", "AVX512_CORE_FP16"):
        unit = "avx512"
    return Isa(arch, vendor, model, flags, level, unit)


def _collect_flags(said: Log) -> frozenset[str]:
    words = f"{_text(said, 'machdep.cpu.features')} {_text(said, 'machdep.cpu.leaf7_features')}"
    flags = {_SPELLINGS.get(word, word) for word in words.lower().split()}
    for name, flag in _ARM_FLAGS.items():
        if said.get(f"hw.optional.arm.{name}") == "1":
            flags.add(flag)
    return frozenset(flags)


def _text(said: Log, name: str) -> str:
    return said.get(name) or ""


def _count(said: Log, name: str) -> int:
    text = _text(said, name)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0


def _run_sysctl(command: Sequence[str]) -> str:
    import subprocess

    # It exits with 1 if one of the names is unknown here, and still answers the others.
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10).stdout


def _ask_psutil() -> tuple[int, int, Sequence[int]]:
    import psutil

    logical = psutil.cpu_count(logical=True) or 1
    physical = psutil.cpu_count(logical=False) or logical
    process = psutil.Process()
    mask = process.cpu_affinity() if hasattr(process, "cpu_affinity") else None
    return physical, logical, mask or ()


def _ask_cpuinfo() -> Mapping[str, object]:
    from cpuinfo import get_cpu_info

    info: Mapping[str, object] = get_cpu_info()
    return info
