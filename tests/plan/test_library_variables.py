"""Variables that affect training are known by name; oneDNN's are looked up as oneDNN does."""

from __future__ import annotations

import pytest

from nano_init.plan.library_variables import onednn_setting, steers_training


@pytest.mark.parametrize(
    ("name", "steers"),
    [
        ("TF_XLA_FLAGS", True),
        ("XLA_FLAGS", True),
        ("KERAS_BACKEND", True),
        ("DNNL_MAX_CPU_ISA", True),
        ("ONEDNN_DEFAULT_FPMATH_MODE", True),
        ("MKL_NUM_THREADS", True),
        ("GOMP_CPU_AFFINITY", True),
        ("LD_PRELOAD", True),
        ("TF_CPP_MIN_LOG_LEVEL", False),
        ("LD_PRELOADED", False),
        ("HOME", False),
    ],
)
def test_variables_that_affect_training_are_recognized(name: str, steers: bool) -> None:
    assert steers_training(name) is steers


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, ("", "")),
        ({"DNNL_MAX_CPU_ISA": "AVX2"}, ("DNNL_MAX_CPU_ISA", "AVX2")),
        (
            {"ONEDNN_MAX_CPU_ISA": "AVX", "DNNL_MAX_CPU_ISA": "AVX2"},
            ("ONEDNN_MAX_CPU_ISA", "AVX"),
        ),
        ({"ONEDNN_MAX_CPU_ISA": "", "DNNL_MAX_CPU_ISA": "AVX2"}, ("DNNL_MAX_CPU_ISA", "AVX2")),
    ],
)
def test_the_newer_name_of_a_setting_wins_unless_it_is_empty(
    environ: dict[str, str], found: tuple[str, str]
) -> None:
    assert onednn_setting(environ, "MAX_CPU_ISA") == found
