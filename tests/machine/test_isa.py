"""The ISA level follows oneDNN's rules, and AMX needs the kernel's permission."""

from __future__ import annotations

import errno

import pytest

from nano_init.machine.cpuinfo import parse_cpuinfo
from nano_init.machine.isa import identify, name_level
from nano_init.machine.xfeatures import TILE_DATA

AVX512 = "sse4_1 avx avx2 avx512f avx512bw avx512vl avx512dq"
SAPPHIRE_RAPIDS = (
    f"lm {AVX512} avx_vnni avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_int8 amx_bf16"
)


def describe(*flags):
    return parse_cpuinfo(
        "\n".join(
            f"processor: {cpu}\nvendor_id: GenuineIntel\nmodel name: X\nflags: {line}\n"
            for cpu, line in enumerate(flags)
        )
    )


@pytest.mark.parametrize(
    ("flags", "level"),
    [
        ("", None),
        ("sse4_1", "SSE41"),
        ("sse4_1 avx", "AVX"),
        ("sse4_1 avx avx2", "AVX2"),
        ("sse4_1 avx avx2 avx_vnni", "AVX2_VNNI"),
        ("sse4_1 avx avx2 avx_vnni avx_vnni_int8", "AVX2_VNNI"),
        ("sse4_1 avx avx2 avx_vnni avx_vnni_int8 avx_ne_convert", "AVX2_VNNI_2"),
        ("sse4_1 avx avx2 avx512f", "AVX2"),  # Knights Landing has no BW, VL, DQ
        (AVX512, "AVX512_CORE"),
        (f"{AVX512} avx512_vnni", "AVX512_CORE_VNNI"),
        (f"{AVX512} avx512_vnni avx512_bf16", "AVX512_CORE_BF16"),
        (f"{AVX512} avx512_vnni avx512_bf16 avx_vnni", "AVX512_CORE_BF16"),  # Zen 5
        (f"{AVX512} avx512_vnni avx512_bf16 avx512_fp16 avx_vnni", "AVX512_CORE_FP16"),
        (SAPPHIRE_RAPIDS, "AVX512_CORE_AMX"),
        (f"{SAPPHIRE_RAPIDS} amx_fp16", "AVX512_CORE_AMX_FP16"),  # Granite Rapids, AVX10.1
        (f"{AVX512} amx_tile amx_int8 amx_bf16", "AVX512_CORE"),  # AMX without its base
    ],
)
def test_level_is_the_highest_whose_flags_are_present(flags, level):
    assert name_level(flags.split()) == level


def test_avx10_processor_has_the_level_of_its_avx512_flags():
    """AVX10.1 is an alias of AVX512_CORE_FP16 in oneDNN; its own flags add nothing."""
    flags = f"lm {AVX512} avx_vnni avx512_vnni avx512_bf16 avx512_fp16 avx10_1 avx10_2"

    isa = identify(describe(flags), [0], "x86_64")

    assert (isa.level, isa.bf16) == ("AVX512_CORE_FP16", "avx512")


def test_flags_are_common_to_all_allowed_threads():
    cpuinfo = describe("lm avx avx2 avx512f", "lm avx avx2")

    assert identify(cpuinfo, [0], "x86_64").flags == {"lm", "avx", "avx2", "avx512f"}
    assert identify(cpuinfo, [0, 1], "x86_64").flags == {"lm", "avx", "avx2"}


def test_amx_permitted_by_the_kernel_is_the_bf16_unit():
    isa = identify(describe(SAPPHIRE_RAPIDS), [0], "x86_64", lambda: TILE_DATA | 7)

    assert (isa.level, isa.bf16, isa.amx_denied) == ("AVX512_CORE_AMX", "amx", None)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.EPERM])
def test_amx_refused_by_the_kernel_falls_back_to_avx512_with_the_reason(code):
    def refuse():
        raise OSError(code, "refused thus")

    isa = identify(describe(SAPPHIRE_RAPIDS), [0], "x86_64", refuse)

    assert (isa.level, isa.bf16) == ("AVX512_CORE_FP16", "avx512")
    assert isa.amx_denied is not None
    assert "refused thus" in isa.amx_denied


def test_amx_without_the_tile_state_is_denied():
    isa = identify(describe(SAPPHIRE_RAPIDS), [0], "x86_64", lambda: 0x7)

    assert isa.bf16 == "avx512"
    assert isa.amx_denied is not None
    assert "0x7" in isa.amx_denied


def test_kernel_is_not_asked_if_the_processor_has_no_amx():
    def fail():
        raise AssertionError("asked")

    assert identify(describe(f"lm {AVX512}"), [0], "x86_64", fail).amx_denied is None


def test_arm_bf16_flag_is_a_unit_and_names_are_looked_up_by_number():
    cpuinfo = parse_cpuinfo(
        "processor : 0\nFeatures : fp asimd bf16 i8mm sve\nCPU implementer : 0x41\n"
        "CPU architecture: 8\nCPU part : 0xd4f\n"
    )

    isa = identify(cpuinfo, [0], "")

    assert (isa.arch, isa.vendor, isa.model) == ("aarch64", "Arm", "Neoverse-V2")
    assert (isa.level, isa.bf16) == (None, "arm")


def test_arm_processor_with_two_core_types_has_both_names():
    block = "processor : {}\nFeatures : fp\nCPU implementer : 0x41\nCPU part : {}\n"
    cpuinfo = parse_cpuinfo(
        "\n".join(block.format(n, part) for n, part in enumerate(["0xd87", "0xd85", "0xd87"]))
    )

    assert identify(cpuinfo, [0], "aarch64").model == "Cortex-A725 + Cortex-X925"


def test_unknown_arm_part_keeps_its_numbers():
    cpuinfo = parse_cpuinfo("processor : 0\nFeatures : fp\nCPU implementer : 0x99\nCPU part : 0x1")

    isa = identify(cpuinfo, [0], "aarch64")

    assert (isa.vendor, isa.model) == ("0x99", "part 0x1")


def test_flags_after_the_last_processor_apply_to_all():
    """32-bit Arm kernels print one line of features at the end."""
    cpuinfo = parse_cpuinfo("processor : 0\n\nprocessor : 1\n\nFeatures : half neon\n")

    assert cpuinfo.cpus == (0, 1)
    assert cpuinfo.common_flags([1]) == {"half", "neon"}


def test_empty_cpuinfo_gives_a_processor_without_a_name():
    isa = identify(parse_cpuinfo(""), [0], "")

    assert (isa.arch, isa.vendor, isa.model, isa.level, isa.bf16) == ("", "", "", None, None)
