"""Which precision to train in. Pure: facts in, a choice with its reason out."""

from __future__ import annotations

from nano_init.errors import PrecisionError
from nano_init.plan.library_variables import onednn_setting
from nano_init.plan.onednn_level import onednn_level
from nano_init.plan.settings import PrecisionChoice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nano_init.machine.facts import Isa

__all__ = [
    "PRECISIONS",
    "TRAINABLE",
    "cause_of",
    "check_precision",
    "recommend_precision",
    "slow_precision",
    "without_guards",
]

# What models can be trained in.
TRAINABLE = ("float32", "mixed_bfloat16")

# "auto" goes by the instruction set, "measured" by the matmul benchmark of this machine.
PRECISIONS = ("auto", "measured", *TRAINABLE)

_NOT_RECOMMENDED = "mixed_bfloat16 not recommended: "

_UNITS = {
    "amx": "AMX multiplies bfloat16 natively, in tiles",
    "avx512": "AVX512_BF16 multiplies bfloat16 natively",
    "arm": "the Arm bf16 instructions multiply bfloat16 natively",
}

# oneDNN's levels below its first with bfloat16 instructions, as ONEDNN_MAX_CPU_ISA takes
# them (oneDNN, doc/advanced/cpu_dispatcher_control.md).
_LEVELS_WITHOUT_BF16 = frozenset(
    ["SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"]
)

_REFUSED = {
    "bfloat16": "its variables would lose every update smaller than 1/256 of their value",
    "float16": "its variables and gradients under- and overflow",
    "mixed_float16": "CPUs have no fast float16 training path",
}

_SHORT_NAMES = {"bf16": "mixed_bfloat16", "fp32": "float32"}


def check_precision(value: object, *, auto: bool = True) -> str:
    """Return the precision if it is one that models can be trained in.

    Args:
        value: the name to check; hyphens count as underscores.
        auto: whether "auto" and "measured" are allowed, which leave the choice to nano-init.

    Raises:
        PrecisionError: the name is unknown, or unfit for training.
    """
    allowed = PRECISIONS if auto else TRAINABLE
    name = str(value).replace("-", "_")
    if isinstance(value, str) and name in allowed:
        return name
    raise PrecisionError(f"precision {value!r} is {_fault(name)}; {_choices(allowed)}")


def _fault(name: str) -> str:
    if name in _REFUSED:
        return f"not for training ({_REFUSED[name]})"
    return f"unknown, did you mean {_SHORT_NAMES[name]}" if name in _SHORT_NAMES else "unknown"


def _choices(names: tuple[str, ...]) -> str:
    return f"choose {', '.join(names[:-1])} or {names[-1]}"


def recommend_precision(isa: Isa, environ: Mapping[str, str]) -> PrecisionChoice:
    """Recommend mixed_bfloat16 where a unit multiplies it faster than float32.

    Args:
        isa: the instruction set of the allowed processors.
        environ: the user's environment; it can switch oneDNN or its levels off.
    """
    obstacle = _obstacle(isa, environ)
    if obstacle or isa.bf16 is None:
        return PrecisionChoice("float32", f"{_NOT_RECOMMENDED}{obstacle}")
    return PrecisionChoice("mixed_bfloat16", _UNITS[isa.bf16])


def without_guards(fault: str) -> PrecisionChoice:
    """Return the choice of float32 on a Keras that bfloat16 cannot be guarded on.

    Args:
        fault: what is wrong, a phrase.
    """
    return PrecisionChoice("float32", f"{_NOT_RECOMMENDED}{fault}")


def cause_of(choice: PrecisionChoice) -> str:
    """Return the reason of a choice without the words that the choice itself says."""
    return choice.reason.removeprefix(_NOT_RECOMMENDED)


def slow_precision(precision: str, recommended: PrecisionChoice) -> str | None:
    """Return a warning if the precision costs accuracy and saves no time here, else None."""
    if precision == "mixed_bfloat16" and recommended.recommended == "float32":
        return f"mixed_bfloat16 is no faster than float32 here: {cause_of(recommended)}"
    return None


def _obstacle(isa: Isa, environ: Mapping[str, str]) -> str | None:
    if isa.bf16 is None:
        return _missing_unit(isa)
    if isa.bf16 == "arm" and isa.arch != "aarch64":
        return "TensorFlow's build for this system has no bfloat16 kernels for Arm"
    if environ.get("TF_ENABLE_ONEDNN_OPTS", "").lower() in ("0", "false"):
        return "TF_ENABLE_ONEDNN_OPTS=0 switches off oneDNN, and with it the bfloat16 instructions"
    name, ceiling = onednn_setting(environ, "MAX_CPU_ISA")
    if ceiling.upper() in _LEVELS_WITHOUT_BF16:
        return f"{name}={ceiling} keeps oneDNN below its first level with bfloat16"
    if _has_half_speed(isa) and "AMX" not in (onednn_level(isa.level, environ) or ""):
        denied = f" ({isa.amx_denied})" if isa.amx_denied else ""
        return f"without AMX{denied}, this processor multiplies bfloat16 at half float32's speed"
    return None


def _has_half_speed(isa: Isa) -> bool:
    """Say whether AVX512_BF16 multiplies at half the speed of float32.

    Measured on Intel's model 207 (Emerald Rapids): it starts one VDPBF16PS every two cycles, and
    two multiplications of float32 vectors every cycle. TensorFlow's products reach 150 GFLOP/s on
    two cores in bfloat16 and 270 in float32. The other processors that were made with AMX are taken
    to be alike. AVX512_FP16 came with AMX, and tells them where a virtual machine hides that.
    """
    return isa.vendor == "GenuineIntel" and not isa.flags.isdisjoint(("avx512_fp16", "amx_tile"))


def _missing_unit(isa: Isa) -> str:
    if isa.amx_denied:
        return f"{isa.amx_denied}, and the processor has no other bfloat16 instructions"
    if "avx512f" in isa.flags:
        return "AVX-512 without AVX512_BF16 emulates bfloat16 and is slower than float32"
    if isa.arch in ("x86_64", "AMD64", "i686"):
        return (
            "without AVX512_BF16 or AMX, TensorFlow computes bfloat16 in software, "
            "slower than float32"
        )
    return "this processor has no bfloat16 instructions, and TensorFlow would emulate them"
