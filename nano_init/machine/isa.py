"""The instruction set that every allowed hardware thread has, and oneDNN's name for it."""

from __future__ import annotations

from nano_init.machine.facts import Isa
from nano_init.machine.xfeatures import TILE_DATA

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from nano_init.machine.cpuinfo import CpuInfo
    from nano_init.machine.facts import Bf16Unit

__all__ = ["LEVELS", "guess_arch", "identify", "name_level"]

# oneDNN's ISA levels, each with what it adds to the level that it is built on; from `mayiuse`
# in oneDNN's src/cpu/x64/cpu_isa_traits.hpp. AVX10.1 is an alias there (AVX10_1_512 is
# AVX512_CORE_FP16), and older releases know the older names only.
_LEVELS = (
    ("SSE41", "", "sse4_1"),
    ("AVX", "", "avx"),
    ("AVX2", "", "avx2"),
    ("AVX2_VNNI", "AVX2", "avx_vnni"),
    ("AVX2_VNNI_2", "AVX2_VNNI", "avx_vnni_int8 avx_ne_convert"),
    ("AVX512_CORE", "", "avx512f avx512bw avx512vl avx512dq"),
    ("AVX512_CORE_VNNI", "AVX512_CORE", "avx512_vnni"),
    ("AVX512_CORE_BF16", "AVX512_CORE_VNNI", "avx512_bf16"),
    ("AVX512_CORE_FP16", "AVX512_CORE_BF16", "avx512_fp16 avx2 avx_vnni"),
    ("AVX512_CORE_AMX", "AVX512_CORE_FP16", "amx_tile amx_int8 amx_bf16"),
    ("AVX512_CORE_AMX_FP16", "AVX512_CORE_AMX", "amx_fp16"),
)
# Their names, the lowest first.
LEVELS = tuple(level for level, _, _ in _LEVELS)

_AMX_FLAGS = frozenset(["amx_tile", "amx_int8", "amx_bf16", "amx_fp16", "amx_complex"])


def identify(
    cpuinfo: CpuInfo,
    allowed: Collection[int],
    arch: str,
    ask_xfeatures: Callable[[], int] | None = None,
) -> Isa:
    """Return the instruction set common to the allowed processors.

    Args:
        cpuinfo: what /proc/cpuinfo says.
        allowed: ids of the hardware threads that the process may run on.
        arch: the machine name, as `uname -m` gives it; "" to guess it from cpuinfo.
        ask_xfeatures: how to ask the kernel for the extended states that it supports; None
            where there is no kernel to ask, as for a recorded machine. It is called only if
            the processor has AMX.
    """
    flags = cpuinfo.common_flags(allowed)
    denied = _refuse_amx(ask_xfeatures) if "amx_tile" in flags and ask_xfeatures else None
    arch = arch or guess_arch(cpuinfo)
    level = name_level(flags - _AMX_FLAGS if denied else flags) if _is_x86(arch) else None
    return Isa(
        arch=arch,
        vendor=_name_vendor(cpuinfo.fields),
        model=_name_model(cpuinfo),
        flags=flags,
        level=level,
        bf16=_find_bf16_unit(level, flags),
        amx_denied=denied,
    )


def name_level(flags: Collection[str]) -> str | None:
    """Return the highest of oneDNN's x86 ISA levels that the flags allow, or None."""
    reached = {""}
    highest = None
    for level, base, wanted in _LEVELS:
        if base in reached and all(flag in flags for flag in wanted.split()):
            reached.add(level)
            highest = level
    return highest


def guess_arch(cpuinfo: CpuInfo) -> str:
    """Return the machine name that the fields of cpuinfo indicate; "" if none."""
    fields = cpuinfo.fields
    if "vendor_id" in fields and "flags" in fields:
        return "x86_64" if "lm" in fields["flags"].split() else "i686"
    if "CPU implementer" in fields:
        return "aarch64" if fields.get("CPU architecture") in ("8", "AArch64") else "armv7l"
    if "mmu" in fields or fields.get("isa", "").startswith("rv"):
        return "riscv32" if fields.get("isa", "").startswith("rv32") else "riscv64"
    if fields.get("cpu", "").startswith("POWER"):
        return "ppc64le"
    return "s390x" if fields.get("vendor_id", "").startswith("IBM/S390") else ""


def _is_x86(arch: str) -> bool:
    return arch in ("x86_64", "AMD64", "amd64") or (arch.startswith("i") and arch.endswith("86"))


def _refuse_amx(ask_xfeatures: Callable[[], int]) -> str | None:
    try:
        bits = ask_xfeatures()
    except OSError as error:
        return f"the kernel refuses AMX (arch_prctl ARCH_GET_XCOMP_SUPP: {error.strerror})"
    if not bits & TILE_DATA:
        return f"the kernel has no AMX tiles among its extended states (XCOMP_SUPP {bits:#x})"
    return None


def _find_bf16_unit(level: str | None, flags: Collection[str]) -> Bf16Unit | None:
    if level is None:
        return "arm" if "bf16" in flags else None
    if "AMX" in level:
        return "amx"
    return "avx512" if level in ("AVX512_CORE_BF16", "AVX512_CORE_FP16") else None


def _name_vendor(fields: dict[str, str]) -> str:
    if "CPU implementer" in fields:
        from nano_init.machine.arm import name_arm_vendor

        return name_arm_vendor(fields["CPU implementer"])
    if fields.get("cpu", "").startswith("POWER"):
        return "IBM"
    return fields.get("vendor_id") or fields.get("uarch", "").partition(",")[0]


def _name_model(cpuinfo: CpuInfo) -> str:
    fields = cpuinfo.fields
    if fields.get("model name"):
        return fields["model name"]
    if "CPU implementer" in fields:
        parts = cpuinfo.parts or (fields.get("CPU part", ""),)
        from nano_init.machine.arm import name_arm_model

        return " + ".join(name_arm_model(fields["CPU implementer"], part) for part in parts)
    if "cpu" in fields:
        return fields["cpu"].partition(",")[0]
    return fields.get("uarch", "").partition(",")[2]
