"""oneDNN takes kernels of the processor's ISA level, or of a lower one that a variable names."""

from __future__ import annotations

import pytest

from nano_init.plan.onednn_level import onednn_level


@pytest.mark.parametrize(
    ("level", "environ", "expected"),
    [
        ("AVX2", {}, "AVX2"),
        ("AVX512_CORE_BF16", {"ONEDNN_MAX_CPU_ISA": "AVX2"}, "AVX2"),
        ("AVX512_CORE_BF16", {"DNNL_MAX_CPU_ISA": "avx2_vnni"}, "AVX2_VNNI"),
        ("AVX2", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, "AVX2"),
        ("AVX512_CORE", {"ONEDNN_MAX_CPU_ISA": "ALL"}, "AVX512_CORE"),
        ("AVX512_CORE", {"ONEDNN_MAX_CPU_ISA": "typo"}, "AVX512_CORE"),
        (None, {"ONEDNN_MAX_CPU_ISA": "AVX2"}, None),
    ],
)
def test_the_lower_level_counts(level, environ, expected) -> None:
    assert onednn_level(level, environ) == expected
