"""A log proves the precision, the unit and the cost of each primitive."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nano_init.evidence.onednn.primitive_kinds import (
    Summary,
    count_bytes,
    count_operations,
    summarize,
    unit_of,
)
from nano_init.evidence.onednn.verbose_log import Execution, VerboseLog, parse_verbose

LOGS = Path(__file__).parent / "onednn_logs"
AVX512 = "Intel AVX-512 with AVX512BW, AVX512VL, and AVX512DQ extensions"
BF16 = "Intel AVX-512 with Intel DL Boost and bfloat16 support"
AMX = "Intel AMX with bfloat16 and 8-bit integer support"


def summary(name: str) -> Summary:
    return summarize(parse_verbose((LOGS / f"{name}.log").read_text().splitlines()))


def execution(implementation: str, dtype: str = "bf16", primitive: str = "matmul") -> Execution:
    tensors = f"src:{dtype}::blocked:ab::f0 wei:{dtype}::blocked:ab::f0 dst:f32::blocked:ab::f0"
    return Execution("cpu", primitive, implementation, "undef", tensors, "", "", "2x3:3x4", 1.0)


@pytest.mark.parametrize(
    ("implementation", "isa", "unit"),
    [
        ("brg_matmul:avx512_core_bf16", BF16, "avx512"),
        ("brg_matmul:avx10_1_512_amx", AMX, "amx"),
        ("brg:avx512_core_amx", AMX, "amx"),
        ("brgconv:avx10_1_512_amx_fp16", AMX, "amx"),
        ("brg_matmul:avx10_1_512", AMX, "avx512"),
        ("brg_conv_bwd:avx512_core_bf16+brg_conv_fwd:avx512_core_bf16", BF16, "avx512"),
        # The kernel's data type is in its name; the instructions are those after the colon.
        ("jit_bf16:avx512_core", AVX512, "emulated"),
        ("gemm:jit:bf16", AVX512, "emulated"),
        ("gemm:jit:bf16", BF16, "avx512"),
        ("x64:gemm:jit", AVX512, "emulated"),
        ("x64:gemm:jit", BF16, "avx512"),
        ("x64:gemm:jit", "", "unknown"),
        ("ref:any", AMX, "reference"),
        ("gemm:acl", "AArch64 SVE (256 bits)", "arm"),
        ("brg_matmul:avx2_vnni_2", "Intel AVX2 with Intel DL Boost, float16 and bfloat16 support",
         "avx2"),
    ],
)  # fmt: skip
def test_the_unit_follows_from_the_kernels_level_or_else_from_the_processor(
    implementation: str, isa: str, unit: str
) -> None:
    assert unit_of(execution(implementation), isa) == unit


def test_float32_uses_no_bfloat16_unit() -> None:
    assert unit_of(execution("brg_matmul:avx512_core_bf16", "f32"), BF16) == ""


def test_all_bfloat16_of_the_recorded_steps_ran_on_its_unit() -> None:
    found = summary("avx512_core_bf16")
    bf16 = [kind for kind in found.kinds if kind.dtype == "bf16" and kind.operations]
    assert {(kind.primitive, kind.unit) for kind in bf16} == {
        ("matmul", "avx512"),
        ("convolution", "avx512"),
        ("inner_product", "avx512"),
    }
    assert found.bf16_ms == pytest.approx(sum(kind.milliseconds for kind in bf16))
    assert (found.emulated_ms, found.reference_ms) == (0, 0)
    assert found.bf16_ms < found.contraction_ms < found.milliseconds


def test_the_recorded_amx_steps_ran_on_amx_except_in_gemm_kernels() -> None:
    found = summary("avx10_1_512_amx")
    bf16 = [kind for kind in found.kinds if kind.dtype == "bf16" and kind.operations]
    assert {(kind.primitive, kind.unit, kind.isa) for kind in bf16} == {
        ("convolution", "amx", "avx10_1_512_amx"),
        ("matmul", "amx", "avx10_1_512_amx"),
        # "x64:gemm:jit" does not name its instructions: AMX is not claimed without evidence.
        ("inner_product", "avx512", ""),
    }
    assert found.bf16_ms == pytest.approx(sum(kind.milliseconds for kind in bf16))
    assert (found.emulated_ms, found.reference_ms) == (0, 0)


def test_a_reference_kernel_is_distinguished_from_emulation_and_from_the_unit() -> None:
    found = summary("reference")
    (loop,) = (kind for kind in found.kinds if kind.unit == "reference")
    assert (loop.primitive, loop.isa, loop.count) == ("convolution", "ref", 2)
    assert found.reference_ms == loop.milliseconds
    # In each of two steps 4 images, 5 channels, 32x32 positions, 31x31 products each.
    assert loop.operations == 2 * 2 * 4 * 5 * 32**2 * 31**2
    assert found.contraction_ms == pytest.approx(found.reference_ms + found.emulated_ms)
    assert found.bf16_share == 0


def test_emulation_does_not_count_as_the_unit() -> None:
    found = summary("emulation")
    assert found.bf16_share == 0
    assert found.emulated_ms > 0


def test_a_float32_log_has_no_bfloat16() -> None:
    found = summary("float32")
    assert (found.bf16_share, found.emulated_ms) == (0, 0)


def test_a_reference_kernel_is_counted_and_a_cast_is_not_a_layout_change() -> None:
    found = summary("amx")
    assert found.reference_ms == 1.5
    assert found.cast_ms == 0.0310059
    assert found.layout_ms == 0
    assert {kind.unit for kind in found.kinds} == {"", "amx", "reference"}


def test_without_contractions_there_is_no_bfloat16_share() -> None:
    assert summarize(VerboseLog()).bf16_share is None


@pytest.mark.parametrize(
    ("primitive", "problem", "operations"),
    [
        ("matmul", "2x3:3x4", 2 * 2 * 3 * 4),
        ("matmul", "5x2x3:5x3x4", 5 * 2 * 2 * 3 * 4),
        ("matmul", "5x2x3:1x3x4", 5 * 2 * 2 * 3 * 4),
        ("inner_product", "mb16ic1024oc64", 2 * 16 * 1024 * 64),
        (
            "convolution",
            "mb16_ic3oc16_ih16oh16kh3sh1dh0ph1_iw16ow16kw3sw1dw0pw1",
            2 * 16 * 3 * 16 * 16 * 16 * 9,
        ),
        ("convolution", "g8mb1_ic8oc8_ih4oh4kh3sh1dh0ph1_iw4ow4kw3sw1dw0pw1", 2 * 8 * 16 * 9),
        ("reorder", "16x3x3x3", 0),
        ("matmul", "nonsense", 0),
    ],
)
def test_operations_are_counted_from_the_problem(
    primitive: str, problem: str, operations: float
) -> None:
    made = replace(execution("any", primitive=primitive), problem=problem)
    assert count_operations(made) == operations


@pytest.mark.parametrize(
    ("primitive", "problem", "elements"),
    [
        ("matmul", "2x3:3x4", 2 * 3 + 3 * 4 + 2 * 4),
        ("matmul", "5x2x3:5x3x4", 5 * (2 * 3 + 3 * 4 + 2 * 4)),
        ("inner_product", "mb16ic8ih2iw2oc64", 16 * 8 * 4 + 8 * 64 * 4 + 16 * 64),
        (
            "convolution",
            "mb2_ic3oc16_ih8oh4kh3sh2dh0ph1_iw8ow4kw3sw2dw0pw1",
            2 * 3 * 64 + 3 * 16 * 9 + 2 * 16 * 16,
        ),
        ("convolution", "g8mb1_ic8oc8_ih4oh4kh3sh1dh0ph1_iw4ow4kw3sw1dw0pw1", 128 + 72 + 128),
        ("reorder", "16x3x3x3", 0),
        ("matmul", "7:7", 0),
        ("convolution", "nonsense", 0),
    ],
)
def test_bytes_are_counted_from_the_problem(primitive: str, problem: str, elements: int) -> None:
    made = replace(execution("any", primitive=primitive), problem=problem)
    assert count_bytes(made) == 2 * elements  # bfloat16
