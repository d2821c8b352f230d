"""Each check reports its fault with a fix, and is silent otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nano_init.evidence.doctor.examination import diagnosis_to_json, format_diagnosis
from nano_init.evidence.doctor.findings import Examined, Finding, diagnose, why_not
from nano_init.evidence.doctor.tensorflow_facts import (
    TensorFlowFacts,
    examine_tensorflow,
    read_facts,
)
from nano_init.machine.facts import Core, Isa, Limits, Machine, Topology
from nano_init.plan.decide import decide
from nano_init.plan.settings import Options

FACTS = TensorFlowFacts(
    tensorflow="2.21.0",
    keras="3.15.1",
    backend="tensorflow",
    onednn="3.7.3",
    runtime="threadpool",
    isa="Intel AVX-512 with Intel DL Boost and bfloat16 support",
    unit="avx512",
    gflops=(("float32", 400.0), ("bfloat16", 800.0)),
    gigabytes_a_second=20.0,
    openmp=("libgomp-24e2ab19.so.1.0.0",),
    import_seconds=4.0,
)


def examined(
    environ: dict[str, str] | None = None,
    *,
    bf16: Any = "avx512",
    quota: float | None = None,
    amx_denied: str | None = None,
    **more: Any,
) -> Examined:
    flags = frozenset({"avx512f"})
    isa = Isa("x86_64", "AMD", "EPYC", flags, "AVX512_CORE_BF16", bf16, amx_denied)
    cores = tuple(Core((cpu,), 0, 0) for cpu in range(4))
    limits = Limits((0, 1, 2, 3), cpu_quota=quota, cpu_quota_source="/cpu.max" if quota else "")
    machine = Machine(isa, Topology(cores, (), 1), limits)
    plan = decide(machine, environ or {}, Options(), None)
    usual: dict[str, Any] = {
        "tensorflow": FACTS,
        "distributions": {},
        "preloads": {},
        "huge_pages": "madvise",
    }
    return Examined(**{"machine": machine, "plan": plan, "environ": environ or {}, **usual, **more})


def faults(found: Examined) -> list[Finding]:
    return [finding for finding in diagnose(found) if finding.level in ("problem", "warning")]


def test_a_slow_bfloat16_unit_is_a_note_since_no_variable_is_to_blame() -> None:
    flags = frozenset({"avx512f", "avx512_bf16", "avx512_fp16"})
    isa = Isa("x86_64", "GenuineIntel", "Xeon", flags, "AVX512_CORE_FP16", "avx512")
    machine = replace(examined().machine, isa=isa)
    found = examined(
        machine=machine,
        plan=decide(machine, {}, Options(), None),
        tensorflow=replace(FACTS, gflops=(("float32", 270.0), ("bfloat16", 150.0))),
    )
    assert faults(found) == []
    notes = [finding for finding in diagnose(found) if finding.check == "bfloat16 unit"]
    assert [note.level for note in notes] == ["note"]
    assert notes[0].seen.startswith("float32 is recommended: without AMX")


def test_a_sound_machine_has_no_problems_and_no_warnings() -> None:
    assert faults(examined()) == []


@pytest.mark.parametrize(
    ("found", "level", "check", "words"),
    [
        (examined({"OMP_NUM_THREADS": "1"}), "warning", "OMP_NUM_THREADS", "uses 1 of 4 usable"),
        (examined({"TF_NUM_INTRAOP_THREADS": "64"}), "warning", "TF_NUM_INTRAOP_THREADS", "more"),
        (examined(quota=2.0), "warning", "CPU quota", "starts 4 threads under a quota of 2"),
        (
            examined({"TF_XLA_FLAGS": "--tf_xla_auto_jit=2"}),
            "warning",
            "TF_XLA_FLAGS",
            "matrix products too",
        ),
        (examined({"ONEDNN_VERBOSE": "1"}), "warning", "ONEDNN_VERBOSE", "on stdout"),
        (
            examined({"DNNL_PRIMITIVE_CACHE_CAPACITY": "0"}),
            "problem",
            "primitive cache",
            "compiles every primitive again",
        ),
        (
            examined(
                {"TF_ENABLE_ONEDNN_OPTS": "0"}, tensorflow=replace(FACTS, onednn="", gflops=())
            ),
            "problem",
            "oneDNN",
            "switched off by TF_ENABLE_ONEDNN_OPTS=0",
        ),
        (
            examined(tensorflow=replace(FACTS, onednn="")),
            "problem",
            "oneDNN",
            "built without it",
        ),
        (
            examined(tensorflow=TensorFlowFacts(fault="ModuleNotFoundError: No module")),
            "problem",
            "TensorFlow",
            "does not start: ModuleNotFoundError",
        ),
        (
            examined(
                tensorflow=TensorFlowFacts(fault="TensorFlow is late", timeout=60.0, load=6.25)
            ),
            "warning",
            "TensorFlow",
            "is late (load average 6.2, usable cores 4), so its version",
        ),
        (
            examined(tensorflow=replace(FACTS, backend="jax")),
            "problem",
            "Keras's backend",
            "runs on jax",
        ),
        (
            examined(tensorflow=replace(FACTS, unit="emulated")),
            "problem",
            "measured speed",
            "emulated",
        ),
        (
            examined(tensorflow=replace(FACTS, gflops=(("float32", 400.0), ("bfloat16", 410.0)))),
            "warning",
            "measured speed",
            "less than its casts cost",
        ),
        (
            examined({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}),
            "warning",
            "bfloat16 unit",
            "keeps oneDNN below",
        ),
        (
            examined(amx_denied="the kernel denies it"),
            "warning",
            "AMX",
            "but the kernel denies it",
        ),
        (examined(distributions={"zentf": "5.0"}), "problem", "zentf", "made for inference"),
        (
            examined(tensorflow=replace(FACTS, openmp=("libgomp.so.1", "libiomp5.so"))),
            "warning",
            "OpenMP runtimes",
            "one process loads several",
        ),
        (examined(preloads={"/no.so": False}), "problem", "LD_PRELOAD", "/no.so does not load"),
    ],
)
def test_each_fault_is_reported_alone_and_with_a_fix(
    found: Examined, level: str, check: str, words: str
) -> None:
    by_check = {finding.check: finding for finding in faults(found)}
    assert by_check[check].level == level
    assert words in by_check[check].seen
    assert by_check[check].fix
    # oneDNN's levels and switches affect the bfloat16 unit too.
    assert set(by_check) - {"bfloat16 unit"} <= {check}


@pytest.mark.parametrize(
    "environ",
    [
        {"OMP_NUM_THREADS": "4", "TF_NUM_INTRAOP_THREADS": "4"},
        {"KMP_AFFINITY": "granularity=fine,none", "OMP_PROC_BIND": "false"},
        {"ONEDNN_VERBOSE": "0", "TF_ENABLE_ONEDNN_OPTS": "1", "OMP_NUM_THREADS": ""},
        {"TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_ops_to_cluster=FUSIBLE"},
    ],
)
def test_harmless_settings_get_no_warning(environ: dict[str, str]) -> None:
    assert faults(examined(environ)) == []


@pytest.mark.parametrize(
    "environ",
    [
        {"KMP_AFFINITY": "granularity=fine,proclist=[0],explicit"},
        {"OMP_PROC_BIND": "close"},
    ],
)
def test_a_warning_of_the_plan_is_a_finding(environ: dict[str, str]) -> None:
    (finding,) = faults(examined(environ))
    assert finding.check == "machine"
    assert "unset it" in finding.seen


def test_a_busy_machine_is_not_mistaken_for_a_broken_tensorflow(tmp_path: Path) -> None:
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nexec sleep 20\n")
    slow.chmod(0o755)
    facts = examine_tensorflow({"PATH": "/usr/bin:/bin"}, str(slow), seconds=0.2)
    assert (facts.timeout, facts.fault) == (0.2, "TensorFlow did not finish within 0.2 s")
    found = examined(tensorflow=facts)
    text = format_diagnosis(found, width=400)
    assert "does not start" not in text
    assert "pip install" not in text
    assert "TensorFlow: unknown (" in text
    assert [finding.level for finding in faults(found)] == ["warning"]


def test_a_quota_that_the_thread_count_respects_gets_no_warning() -> None:
    assert faults(examined({"TF_NUM_INTRAOP_THREADS": "2"}, quota=2.0)) == []


def test_two_copies_of_one_openmp_runtime_count_as_one() -> None:
    facts = replace(FACTS, openmp=("libgomp-24e2ab19.so.1.0.0", "libgomp.so.1"))
    assert faults(examined(tensorflow=facts)) == []


class TestWhyNot:
    def test_a_missing_unit_is_the_reason(self) -> None:
        sentence = why_not("mixed_bfloat16", examined(bf16=None))
        assert sentence == (
            "mixed_bfloat16 is not used here: AVX-512 without AVX512_BF16 emulates bfloat16 and is "
            "slower than float32"
        )

    def test_a_variable_that_disables_onednn_is_the_reason(self) -> None:
        assert "TF_ENABLE_ONEDNN_OPTS=0" in why_not(
            "mixed_bfloat16", examined({"TF_ENABLE_ONEDNN_OPTS": "0"})
        )

    def test_a_unit_that_is_not_faster_is_the_reason(self) -> None:
        facts = replace(FACTS, gflops=(("float32", 400.0), ("bfloat16", 300.0)))
        sentence = why_not("mixed_bfloat16", examined(tensorflow=facts))
        assert sentence.startswith("mixed_bfloat16 is not worth it")
        assert "only 0.75 times as fast" in sentence

    def test_a_recommended_precision_is_reported_with_its_measurement(self) -> None:
        sentence = why_not("mixed_bfloat16", examined())
        assert sentence.startswith("mixed_bfloat16 is recommended here: AVX512_BF16")
        assert sentence.endswith("measured to be 2.00 times as fast")

    def test_why_not_accepts_float32_too(self) -> None:
        assert "is recommended here" in why_not("float32", examined())
        assert why_not("float32", examined(bf16=None)).startswith("float32 is recommended here")


class TestFormats:
    def test_neither_format_contains_the_job_secret(self) -> None:
        found = examined({"NANO_RUN_JOB_SECRET": "5ca1ab1e" * 4})
        for text in (format_diagnosis(found), str(diagnosis_to_json(found))):
            assert "NANO_RUN_JOB_SECRET" in text
            assert "5ca1ab1e" not in text

    def test_the_text_has_each_fix_and_a_block_to_paste(self) -> None:
        text = format_diagnosis(examined({"OMP_NUM_THREADS": "1", "SECRET_TOKEN": "x"}), width=100)
        assert "fix: unset OMP_NUM_THREADS" in text
        assert "0 problems, 1 warning." in text
        block = text.split("```")[1]
        assert "OMP_NUM_THREADS=1" in block
        assert "TensorFlow: 2.21.0" in block
        assert "SECRET" not in text

    def test_json_has_the_findings_and_the_measurements(self) -> None:
        found = diagnosis_to_json(examined())
        assert found["measured"]["bfloat16_gain"] == 2.0
        assert {finding["level"] for finding in found["findings"]} == {"ok"}


def test_the_unit_is_read_from_onednns_output() -> None:
    found = {
        "tensorflow": "2.21.0",
        "keras": "3.15.1",
        "backend": "tensorflow",
        "gflops": {"float32": 1.0, "bfloat16": 2.0},
        "gigabytes_a_second": 3.0,
        "libraries": ["/usr/lib/libgomp.so.1", "/usr/lib/libc.so.6"],
        "import_seconds": 1.0,
    }
    output = (
        "onednn_verbose,v1,info,oneDNN v3.7.3 (commit N/A)\n"
        "onednn_verbose,v1,info,cpu,isa:Intel AVX-512 with Intel DL Boost\n"
        "onednn_verbose,v1,primitive,exec,cpu,matmul,gemm:jit,undef,src:f32::blocked:ab::f0 "
        "wei:f32::blocked:ab::f0 dst:f32::blocked:ab::f0,,,2x2:2x2,0.5\n"
        "onednn_verbose,v1,primitive,exec,cpu,matmul,gemm:jit:bf16,undef,src:bf16::blocked:ab::f0 "
        "wei:bf16::blocked:ab::f0 dst:bf16::blocked:ab::f0,,,2x2:2x2,0.5\n"
    )
    facts = read_facts(found, output)
    assert (facts.unit, facts.onednn) == ("emulated", "3.7.3")
    assert facts.openmp == ("libgomp.so.1",)
    assert facts.bf16_gain == 2.0
