"""oneDNN's verbose lines are parsed by their template, whatever surrounds them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init.evidence.onednn.verbose_log import (
    Descriptor,
    Execution,
    format_execution,
    parse_descriptors,
    parse_verbose,
)

LOGS = Path(__file__).parent / "onednn_logs"


def read(name: str) -> list[str]:
    return (LOGS / f"{name}.log").read_text().splitlines()


@pytest.mark.parametrize(
    ("name", "version", "runtime", "executions"),
    [
        ("avx512_core_bf16", "3.7.3", "threadpool", 74),
        ("float32", "3.7.3", "threadpool", 74),
        ("emulation", "3.7.3", "threadpool", 74),
        ("avx10_1_512_amx", "3.7.3", "threadpool", 32),
        ("reference", "3.7.3", "threadpool", 24),
        ("timestamps", "3.7.3", "threadpool", 74),
        ("amx", "3.7.3", "threadpool", 4),
        ("onednn_3_2", "3.2.0", "OpenMP", 1),
        ("dnnl_1_1", "1.1.0", "", 2),
        ("mkldnn_0_20", "0.20.0", "", 1),
        ("acl_arm", "", "", 1),
    ],
)
def test_every_primitive_of_a_log_is_read_and_none_is_damaged(
    name: str, version: str, runtime: str, executions: int
) -> None:
    lines = read(name)
    log = parse_verbose(lines)
    assert (log.version, log.runtime, len(log.executions)) == (version, runtime, executions)
    assert log.damaged == 0
    assert executions == sum(",exec," in line for line in lines)


def test_commas_in_the_processors_description_are_preserved() -> None:
    isa = "Intel AVX-512 with AVX512BW, AVX512VL, and AVX512DQ extensions"
    assert parse_verbose(read("emulation")).isa == isa
    assert parse_verbose(read("dnnl_1_1")).isa == isa


def test_timestamps_do_not_disturb_parsing() -> None:
    plain, stamped = parse_verbose(read("avx512_core_bf16")), parse_verbose(read("timestamps"))
    assert {e.implementation for e in plain.executions} == {
        e.implementation for e in stamped.executions
    }
    assert sum(e.milliseconds for e in stamped.executions) < 1000


def test_a_template_in_another_order_is_followed() -> None:
    log = parse_verbose(
        [
            "onednn_verbose,v9,primitive,info,template:operation,primitive,exec_time,engine,news",
            "onednn_verbose,v9,primitive,exec,matmul,0.5,cpu,whatever",
        ]
    )
    (execution,) = log.executions
    assert (execution.primitive, execution.engine, execution.milliseconds) == ("matmul", "cpu", 0.5)


def test_the_graph_template_is_not_used_for_primitives() -> None:
    """oneDNN prints it second, and its fields differ."""
    lines = read("avx512_core_bf16")
    assert any("graph,info,template" in line for line in lines)
    assert parse_verbose(lines).executions[0].primitive == "reorder"


def test_a_line_after_a_progress_bar_is_read() -> None:
    line = format_execution(parse_verbose(read("float32")).executions[0])
    assert len(parse_verbose([f"\r1/2 \x1b[32m━━\x1b[0m {line}"]).executions) == 1


def test_a_line_that_another_line_interrupts_counts_as_damaged() -> None:
    line = format_execution(parse_verbose(read("float32")).executions[0])
    log = parse_verbose([line[:60] + line])
    assert (len(log.executions), log.damaged) == (1, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("src:bf16::blocked:ab::f0", Descriptor("src", "bf16", ":blocked:ab::f0")),
        ("src_f32::blocked:ba:f0", Descriptor("src", "f32", ":blocked:ba:f0")),
        ("diff_dst_bf16:a:any:any::f0", Descriptor("diff_dst", "bf16", "a:any:any::f0")),
        ("fsrc:nChw8c", Descriptor("fsrc", "", "nChw8c")),
        ("bia:undef::undef:::", Descriptor("bia", "undef", ":undef:::")),
    ],
)
def test_tensor_descriptors_are_read_in_each_notation(text: str, expected: Descriptor) -> None:
    assert parse_descriptors(text) == (expected,)


FIELD = st.text(
    st.characters(codec="utf-8", exclude_characters=",\r\n", exclude_categories=["Cc", "Zl", "Zp"])
).filter(lambda text: "_verbose" not in text)
EXECUTIONS = st.builds(
    Execution,
    engine=FIELD,
    primitive=FIELD.filter(bool),
    implementation=FIELD,
    propagation=FIELD,
    descriptors=FIELD,
    attributes=FIELD,
    auxiliary=FIELD,
    problem=FIELD,
    milliseconds=st.floats(0, 1e9).map(lambda value: float(f"{value:g}")),
)


@given(st.lists(EXECUTIONS))
def test_formatted_executions_are_parsed_back(executions: list[Execution]) -> None:
    lines = [format_execution(execution) for execution in executions]
    log = parse_verbose([*read("acl_arm")[:2], *lines])
    assert log.executions == tuple(executions)


JUNK = st.text().filter(lambda text: "_verbose" not in text)
LINES = st.lists(st.tuples(JUNK, EXECUTIONS.map(format_execution), st.integers(0, 300)))


@given(LINES)
def test_any_output_can_be_parsed_and_no_complete_line_is_lost(
    lines: list[tuple[str, str, int]],
) -> None:
    """Junk before a line, or a truncated line, costs at most that line."""
    parse_verbose(junk + line[:end] for junk, line, end in lines)
    output = [text for junk, line, _ in lines for text in (junk, junk + line, line[:20])]
    assert len(parse_verbose(output).executions) == len(lines)
