"""What a oneDNN log proves: in which precision, on which unit, at which cost. Pure."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass

from nano_init.evidence.onednn.verbose_log import parse_descriptors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from nano_init.evidence.onednn.verbose_log import Execution, VerboseLog

__all__ = [
    "Kind",
    "Summary",
    "count_bytes",
    "count_operations",
    "dtype_of",
    "has_native_bf16",
    "is_contraction",
    "isa_of",
    "summarize",
    "unit_of",
]

_CONTRACTIONS = frozenset(
    ["matmul", "convolution", "deconvolution", "inner_product", "gemm_api", "gemm", "rnn", "brgemm"]
)
_SPATIAL = ("convolution", "deconvolution", "inner_product")

# ISA names as kernels carry them (oneDNN, src/cpu/x64/cpu_isa_traits.hpp).
_ISA = re.compile(r"avx10_\w+|avx512_\w+|avx2\w*|avx|sse41|sve_\d+|sve|asimd|acl|ref|simple|uni")

# Levels whose instructions multiply bfloat16. "jit_bf16:avx512_core" is not one of them: there
# "bf16" is the kernel's data type, and the instructions are AVX-512's own.
_NATIVE = re.compile(r"\w*_(?:bf16|fp16)|avx10_\w+|avx2_vnni_2")


@dataclass(frozen=True)
class Kind:
    """Primitives of one kind, taken together.

    Args:
        primitive: oneDNN's name of the kind.
        dtype: the data type of its inputs, such as "bf16", or "bf16+f32" of mixed ones.
        unit: what multiplied, as `unit_of` says.
        isa: the ISA level of its kernels, as they name it; "" if they do not.
        count: how many ran.
        milliseconds: their time together.
        operations: their floating-point operations together, or 0 where that is unknown.
        bytes: the size of their tensors together, or 0 where that is unknown.
    """

    primitive: str
    dtype: str
    unit: str
    isa: str
    count: int
    milliseconds: float
    operations: float = 0.0
    bytes: float = 0.0


@dataclass(frozen=True)
class Summary:
    """What the primitives of a log cost.

    Args:
        kinds: most expensive first.
        milliseconds: all primitives.
        contraction_ms: matrix products and convolutions.
        bf16_ms: those of them that a bfloat16 unit computed.
        emulated_ms: those in bfloat16 that no unit computed.
        reference_ms: primitives that only a plain C++ loop computes.
        cast_ms: reorders that change the data type.
        layout_ms: other reorders.
    """

    kinds: tuple[Kind, ...]
    milliseconds: float
    contraction_ms: float
    bf16_ms: float
    emulated_ms: float
    reference_ms: float
    cast_ms: float
    layout_ms: float

    @property
    def bf16_share(self) -> float | None:
        """Return the share of the contractions' time on a bfloat16 unit; None without any."""
        return self.bf16_ms / self.contraction_ms if self.contraction_ms else None


def is_contraction(execution: Execution) -> bool:
    """Say whether a primitive multiplies and sums: what a bfloat16 unit is for."""
    return execution.primitive in _CONTRACTIONS


def dtype_of(execution: Execution) -> str:
    """Return the data type of a primitive's inputs; "+" joins different ones."""
    tensors = parse_descriptors(execution.descriptors)
    # Normalizations call their input and output "data".
    inputs = {d.dtype for d in tensors if d.argument.startswith(("src", "wei", "diff_dst", "data"))}
    return "+".join(sorted(inputs - {"", "undef"}))


def isa_of(execution: Execution) -> str:
    """Return the ISA level in a kernel's name; "" where it has none, as "gemm:jit"."""
    found = _ISA.findall(execution.implementation)
    return found[-1] if found else ""


def has_native_bf16(isa: str) -> bool:
    """Say whether the processor multiplies bfloat16, by oneDNN's text about its ISA.

    Args:
        isa: the text, such as "Intel AVX-512 with Intel DL Boost and bfloat16 support".
    """
    return "bfloat16" in isa


def unit_of(execution: Execution, isa: str) -> str:
    """Return what computed a primitive's bfloat16: the evidence that a unit was used.

    Args:
        execution: the primitive.
        isa: the log's text about the processor.

    Returns:
        "amx", "avx512", "arm" or "avx2" for a unit, "emulated", "reference" for a plain loop,
        "unknown", or "" where it is no contraction of bfloat16.
    """
    level = isa_of(execution)
    if level == "ref" or (level == "simple" and is_contraction(execution)):
        return "reference"
    if not is_contraction(execution) or "bf16" not in dtype_of(execution).split("+"):
        return ""
    if "amx" in level:
        return "amx"
    if _NATIVE.fullmatch(level):
        return "avx2" if level.startswith("avx2") else "avx512"
    if level.startswith(("sve", "asimd", "acl")):
        return "arm"
    if level.startswith(("avx", "sse")):
        return "emulated"
    # Kernels such as "gemm:jit" choose their instructions by the processor.
    if not isa:
        return "unknown"
    if not has_native_bf16(isa):
        return "emulated"
    return "avx2" if "AVX2" in isa else "avx512"


def summarize(log: VerboseLog) -> Summary:
    """Add up the primitives of a log by kind, data type and unit."""
    groups: Mapping[tuple[str, str, str, str], list[Execution]] = defaultdict(list)
    for execution in log.executions:
        unit = unit_of(execution, log.isa)
        key = (execution.primitive, dtype_of(execution), unit, isa_of(execution))
        groups[key].append(execution)
    kinds = [_kind(key, members) for key, members in groups.items()]
    contractions = [kind for kind in kinds if kind.primitive in _CONTRACTIONS]
    reorders = [e for e in log.executions if e.primitive == "reorder"]
    return Summary(
        kinds=tuple(sorted(kinds, key=lambda kind: -kind.milliseconds)),
        milliseconds=_total(kinds),
        contraction_ms=_total(contractions),
        bf16_ms=_total(k for k in contractions if k.unit in ("amx", "avx512", "avx2", "arm")),
        emulated_ms=_total(k for k in contractions if k.unit == "emulated"),
        reference_ms=_total(k for k in kinds if k.unit == "reference"),
        cast_ms=_total(e for e in reorders if _changes_dtype(e)),
        layout_ms=_total(e for e in reorders if not _changes_dtype(e)),
    )


def count_operations(execution: Execution) -> float:
    """Return the floating-point operations of a contraction, two for each product; 0 if unknown.

    The shapes are in benchdnn's notation (oneDNN, tests/benchdnn/doc): "MxK:KxN" with leading
    batch dimensions for matmul, "mb16_ic3oc16_ih16oh16kh3..." for convolutions.
    """
    if execution.primitive in ("matmul", "gemm_api", "gemm"):
        return _matmul_operations(execution.problem)
    if execution.primitive not in _SPATIAL:
        return 0.0
    sizes = _sizes(execution.problem)
    if not {"mb", "ic", "oc"} <= sizes.keys():
        return 0.0
    # A deconvolution's products are as many as its input has positions.
    edge = "i" if execution.primitive == "deconvolution" else "o"
    positions = 1
    for axis in "dhw":
        positions *= sizes.get(f"{edge}{axis}", 1) * sizes.get(f"k{axis}", 1)
    if execution.primitive == "inner_product":
        positions = sizes.get("id", 1) * sizes.get("ih", 1) * sizes.get("iw", 1)
    return 2.0 * sizes["mb"] * sizes["ic"] * sizes["oc"] * positions / sizes.get("g", 1)


def _matmul_operations(problem: str) -> float:
    shapes = [_dimensions(part) for part in problem.split(":")[:2]]
    if len(shapes) < 2 or any(len(shape) < 2 for shape in shapes):
        return 0.0
    left, right = shapes
    batch = 1
    for a, b in zip(left[:-2], right[:-2], strict=False):
        batch *= max(a, b)
    return 2.0 * batch * left[-2] * left[-1] * right[-1]


def _dimensions(text: str) -> list[int]:
    words = text.split("x")
    return [int(word) for word in words] if all(w.isascii() and w.isdigit() for w in words) else []


def _sizes(problem: str) -> dict[str, int]:
    return {name: int(size) for name, size in re.findall(r"([a-z]+)(\d+)", problem, re.ASCII)}


_WIDTHS = {"f64": 8, "f32": 4, "s32": 4, "bf16": 2, "f16": 2, "s8": 1, "u8": 1}


def count_bytes(execution: Execution) -> float:
    """Return the size of a contraction's input, weights and output; 0 if unknown.

    Each is counted once, in the width of the inputs' data type.
    """
    if execution.primitive in ("matmul", "gemm_api"):
        elements = _matmul_elements(execution.problem)
    elif execution.primitive in _SPATIAL:
        elements = _spatial_elements(execution.primitive, _sizes(execution.problem))
    else:
        return 0.0
    return float(elements * _WIDTHS.get(dtype_of(execution).split("+")[0], 4))


def _matmul_elements(problem: str) -> int:
    shapes = [_dimensions(part) for part in problem.split(":")[:2]]
    if len(shapes) < 2 or any(len(shape) < 2 for shape in shapes):
        return 0
    left, right = shapes
    elements = left[-2] * left[-1] + right[-2] * right[-1] + left[-2] * right[-1]
    return math.prod(left[:-2]) * elements


def _spatial_elements(primitive: str, sizes: Mapping[str, int]) -> int:
    if not {"mb", "ic", "oc"} <= sizes.keys():
        return 0

    def positions(edge: str) -> int:
        return math.prod(sizes.get(f"{edge}{axis}", 1) for axis in "dhw")

    # An inner product is a convolution whose kernel is as large as its input.
    kernel = positions("i" if primitive == "inner_product" else "k")
    weights = sizes["ic"] * sizes["oc"] * kernel // sizes.get("g", 1)
    inputs = sizes["mb"] * sizes["ic"] * positions("i")
    return inputs + weights + sizes["mb"] * sizes["oc"] * positions("o")


def _changes_dtype(execution: Execution) -> bool:
    dtypes = {d.dtype for d in parse_descriptors(execution.descriptors)} - {"", "undef"}
    return len(dtypes) > 1


def _kind(key: tuple[str, str, str, str], members: list[Execution]) -> Kind:
    operations = [count_operations(member) for member in members]
    sizes = [count_bytes(member) for member in members]
    return Kind(
        *key,
        count=len(members),
        milliseconds=_total(members),
        operations=sum(operations) if all(operations) else 0.0,
        bytes=sum(sizes) if all(sizes) else 0.0,
    )


def _total(items: Iterable[Any]) -> float:
    return float(sum(item.milliseconds for item in items))
