"""Paths ask once per process which of oneDNN's kernels TensorFlow computes with."""

from __future__ import annotations

import pytest

from nano_init.keras_patch.faster import processor


@pytest.mark.parametrize(
    ("level", "uses_onednn", "expected"),
    [
        ("AVX2", True, True),
        ("AVX2_VNNI", True, True),
        ("AVX2", False, False),
        ("AVX", True, False),
        ("AVX512_CORE", True, False),
        (None, True, False),
    ],
)
def test_avx2_without_avx512_and_with_onednn(monkeypatch, level, uses_onednn, expected):
    monkeypatch.setattr(processor, "_level", lambda: level)
    monkeypatch.setattr(processor, "uses_onednn", lambda: uses_onednn)
    assert processor.has_avx2_kernels.__wrapped__() is expected


@pytest.mark.parametrize(
    ("level", "uses_onednn", "expected"),
    [
        ("AVX512_CORE_AMX", True, True),
        ("AVX512_CORE_AMX_FP16", True, True),
        ("AVX512_CORE_AMX", False, False),
        ("AVX512_CORE_BF16", True, False),
        (None, True, False),
    ],
)
def test_amx_with_onednn(monkeypatch, level, uses_onednn, expected):
    monkeypatch.setattr(processor, "_level", lambda: level)
    monkeypatch.setattr(processor, "uses_onednn", lambda: uses_onednn)
    assert processor.has_amx_kernels.__wrapped__() is expected


@pytest.mark.parametrize(
    ("level", "dtype", "expected"),
    [
        ("AVX2", "float32", True),
        ("AVX2", "bfloat16", False),
        ("AVX512_CORE", "bfloat16", True),
        ("AVX512_CORE_AMX", "bfloat16", True),
        (None, "float32", False),
    ],
)
def test_bfloat16_needs_avx512(monkeypatch, level, dtype, expected):
    monkeypatch.setattr(processor, "_level", lambda: level)
    monkeypatch.setattr(processor, "uses_onednn", lambda: True)
    assert processor.has_onednn_kernels.__wrapped__(dtype) is expected
    monkeypatch.setattr(processor, "uses_onednn", lambda: False)
    assert processor.has_onednn_kernels.__wrapped__(dtype) is False


@pytest.mark.tensorflow
@pytest.mark.parametrize("ceiling", ["AVX2", "AVX"])
def test_the_level_of_this_process_respects_its_ceiling(monkeypatch, ceiling):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", ceiling)
    assert processor._level() in ("SSE41", ceiling, None)
    assert isinstance(processor.uses_onednn(), bool)
