"""A report bases its advice on numbers, and is written completely or not at all."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from nano_init.errors import UsageError
from nano_init.evidence.doctor.tensorflow_facts import TensorFlowFacts
from nano_init.evidence.onednn.primitive_kinds import Kind, Summary
from nano_init.evidence.report.counters import Usage
from nano_init.evidence.report.report_file import check_report_file, write_report
from nano_init.evidence.report.report_html import render_html
from nano_init.evidence.report.report_text import format_report
from nano_init.evidence.report.run_report import (
    Report,
    Run,
    SampledSteps,
    advise,
    read_sample,
    report_to_json,
)
from nano_init.evidence.sampling.sample import Sample
from nano_init.instrumentation.operation_profile import add_up_operations
from nano_init.protocol.step_marks import step_mark, step_seconds

Command = Callable[..., Any]

RUN = Run(
    command="train.py --name '<b>&'",
    status=0,
    seconds=20.0,
    cpu_seconds=30.0,
    step_seconds=(0.01,) * 99,
    steps=100,
    first_step_seconds=5.0,
    batch=32,
    waited_seconds=0.0,
    peak_kb=700_000,
    minor_faults=1000,
    major_faults=0,
    usage=Usage(steal=0.0, throttled=None, numa_miss=None),
    most_threads=9,
    processors={0: 3, 1: 1},
)
MATMUL = Kind("matmul", "bf16", "avx512", "avx512_core_bf16", 20, 60.0, 2e9, 1e7)
ONEDNN = Summary((MATMUL,), 70.0, 60.0, 60.0, 0.0, 0.0, 1.0, 2.0)
SAMPLED = SampledSteps(
    steps=10,
    step_time=0.01,
    onednn=ONEDNN,
    operations={"_MklMatMul": 60.0, "Cast": 5.0, "Erf": 3.0},
    unable=(),
    get_next_ms=1.0,
)
FACTS = TensorFlowFacts(
    tensorflow="2.21.0", gflops=(("float32", 200.0), ("bfloat16", 400.0)), gigabytes_a_second=20.0
)
REPORT = Report(RUN, "mixed_bfloat16: a unit", "mixed_bfloat16", SAMPLED, "", FACTS)


def with_run(**changes: Any) -> Report:
    return replace(REPORT, run=replace(RUN, **changes))


def with_sample(**changes: Any) -> Report:
    return replace(REPORT, sampled=replace(SAMPLED, **changes))


def with_onednn(**changes: Any) -> Report:
    return with_sample(onednn=replace(ONEDNN, **changes))


def test_without_a_suspicious_number_there_is_no_advice() -> None:
    assert advise(REPORT) == ()
    assert "Advice: nothing" in format_report(REPORT)


def test_products_that_the_processor_multiplies_in_float32_are_no_layers_choice() -> None:
    report = with_onednn(bf16_ms=0.0)
    assert len(advise(report)) == 1
    assert advise(replace(report, is_widened=True)) == ()


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (with_run(usage=Usage(0.0, 0.4, None)), "stopped the run in 40% of its periods"),
        (with_run(usage=Usage(0.2, None, None)), "gave 20% of the processor time to others"),
        (with_run(usage=Usage(0.0, None, 0.3)), "30% of the pages came from another NUMA node"),
        (with_run(major_faults=5000), "5000 pages were read from a disk"),
        (
            with_run(waited_seconds=0.5, input=("tf.data", "_BatchDataset", "_MapDataset")),
            (
                "steps waited 50% of their time for data; their tf.data pipeline could use "
                "cache(), map() with num_parallel_calls=tf.data.AUTOTUNE, prefetch()"
            ),
        ),
        (
            replace(
                with_sample(get_next_ms=40.0),
                run=replace(RUN, input=("tf.data", "_PrefetchDataset", "_ParallelMapDataset")),
            ),
            "steps waited 40% of their time for data; their tf.data pipeline could use cache()",
        ),
        (
            with_run(waited_seconds=0.5, input=("Python",)),
            "steps waited 50% of their time for data that Python produces",
        ),
        (  # both measured it, and the first steps were the longest
            replace(
                with_sample(get_next_ms=40.0),
                run=replace(RUN, waited_seconds=1.5, input=("Python",)),
            ),
            "steps waited 100% of their time for data that Python produces",
        ),
        (with_onednn(emulated_ms=30.0), "50% of the time in matrix products was emulated bfloat16"),
        (with_onednn(reference_ms=35.0), "50% of oneDNN's time was in its reference kernels"),
        (with_onednn(bf16_ms=15.0), "only 25% of the time in matrix products was bfloat16"),
        (
            with_sample(operations={"MatMul": 50.0, "Cast": 50.0}),
            "50% of the operations' time was in casts",
        ),
        (
            with_sample(operations={"MatMul": 75.0, "Erf": 25.0}, unable=("Erf",)),
            "25% of the operations' time was in operations without a bfloat16 kernel (Erf)",
        ),
    ],
)
def test_advice_is_based_on_a_number(report: Report, words: str) -> None:
    (sentence,) = advise(report)
    assert words in sentence


@pytest.mark.parametrize(
    "came_from",
    [
        (),
        ("arrays",),
        ("tf.data", "_PrefetchDataset", "_CacheDataset", "_ParallelMapDataset"),
    ],
)
def test_waiting_that_no_pipeline_can_shorten_gets_no_advice(
    came_from: tuple[str, ...],
) -> None:
    report = with_run(waited_seconds=0.5, input=came_from)
    assert advise(replace(report, sampled=replace(SAMPLED, get_next_ms=40.0))) == ()


@pytest.mark.parametrize(
    ("step_ms", "has_advice"), [(20.0, False), (0.3, True), (3.0, False), (3.9, True)]
)
def test_less_than_a_millisecond_gets_no_advice_unless_it_is_a_quarter_of_the_step(
    step_ms: float, has_advice: bool
) -> None:
    """Shares alone mean little: half of the operations' time may be a tiny part of a step."""
    each = 1.0 if step_ms == 3.9 else 0.2
    changes: dict[str, Any] = {
        "step_time": step_ms / 1000,
        "get_next_ms": 0.0,
        "operations": {"MatMul": 10 * each, "Cast": 10 * each},
        "onednn": Summary((), 20 * each, 10 * each, 10 * each, 10 * each, 10 * each, 0.0, 0.0),
    }
    assert len(advise(with_sample(**changes))) == (3 if has_advice else 0)


@pytest.mark.parametrize(
    "report",
    [
        REPORT,
        replace(REPORT, sampled=None, fault="the script reads stdin", facts=None),
        with_run(step_seconds=(), first_step_seconds=None, batch=None, status=-9, processors={}),
        with_sample(onednn=Summary((), 0, 0, 0, 0, 0, 0, 0), operations={}),
    ],
)
def test_every_format_describes_the_same_run(report: Report) -> None:
    text, page, values = format_report(report), render_html(report), report_to_json(report)
    json.dumps(values, allow_nan=False)
    assert "train.py --name '<b>&'" in text
    assert "&lt;b&gt;&amp;" in page
    assert "<b>" not in page
    if report.sampled:
        for form in (text, page):
            assert "10.00 ms on average, with the cost of log and profiler" in form
    for sentence in values["advice"]:
        assert sentence in text
    if report.fault:
        assert report.fault in text
        assert report.fault in page
    assert is_balanced(page)


def is_balanced(page: str) -> bool:
    open_tags: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            if tag not in ("meta", "br"):
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    Reader().feed(page)
    return open_tags == []


def test_several_numa_nodes_are_reported() -> None:
    report = with_run(nodes={1: (0.25, 0.0), 0: (0.75, 1.0)})
    nodes = ("0: 75% of the memory, 100% of the threads' work", "1: 25% of the memory, 0% of the")
    line = "; ".join(nodes)
    assert line in format_report(report)
    assert line.replace("'", "&#x27;") in render_html(report)
    assert report_to_json(report)["run"]["nodes"] == {
        "0": {"memory": 0.75, "work": 1.0},
        "1": {"memory": 0.25, "work": 0.0},
    }
    assert "NUMA" not in format_report(REPORT)


def test_the_page_loads_no_other_resources() -> None:
    page = render_html(REPORT)
    assert not re.search(r"https?:|<script|<link|url\(|@import|src=", page)
    assert page.count("<svg") == 4


def test_the_time_between_marks_is_divided_by_the_steps_of_a_mark() -> None:
    assert step_seconds([[0.0, 0, 1, None], [1.0, 0, 2, None], [5.0, 0, 4, None]]) == (1.0, 2.0)


def test_the_sample_begins_after_the_warm_up_and_keeps_the_header() -> None:
    line = (
        "onednn_verbose,v1,primitive,exec,cpu,matmul,gemm:jit,undef,src:bf16::blocked:ab::f0 "
        "wei:bf16::blocked:ab::f0 dst:bf16::blocked:ab::f0,,,2x2:2x2,{}"
    )
    header = "onednn_verbose,v1,info,cpu,isa:Intel AVX-512 with Intel DL Boost and bfloat16 support"
    output = [header, line.format(100), step_mark(1, 0), line.format(1), "noise"]
    output += [step_mark(2, 0), line.format(2), "unended" + step_mark(3, 0)]
    found = read_sample(sample_of(output), 1)
    assert (found.steps, found.onednn.milliseconds, found.onednn.bf16_share) == (2, 3.0, 1.0)


def test_the_sampled_step_time_is_the_mean() -> None:
    """The times of oneDNN and the operations, of which shares are given, include slow steps."""
    sample = replace(sample_of([step_mark(4, 0)]), step_seconds=(0.1, 0.1, 0.4))
    assert read_sample(sample, 4).step_time == pytest.approx(0.2)


def test_a_mark_for_several_steps_counts_all_of_them() -> None:
    """With five steps per execution there is no mark at step 4; with three there is one at 42."""
    for stride, first in ((5, 5), (3, 6)):
        marks = [step_mark(made, 0) for made in range(stride, 60, stride)]
        found = read_sample(sample_of(marks), 4)
        assert found.steps == range(stride, 60, stride)[-1] - first


def test_the_steps_of_a_second_optimizer_are_not_added() -> None:
    marks = [step_mark(made, optimizer) for made in range(1, 31) for optimizer in (0, 1)]
    assert read_sample(sample_of(marks), 4).steps == 26


def sample_of(output: list[str]) -> Sample:
    return Sample((0.1,), (), 1.0, None, None, "", "\n".join(output).encode())


def test_operations_are_distinguished_from_the_executors_events() -> None:
    events = [
        ("tf_Compute/1", "while/body/dense/MatMul:_MklMatMul", 3.0),
        ("tf_Compute/2", "MatMul_1:_MklMatMul", 1.0),
        ("tf_Compute/1", "ExecutorState::Process", 50.0),
        ("tf_Compute/1", "a/Cast:Cast", 5.0),
        ("tf_data_private_threadpool/1", "GatherV2:GatherV2", 9.0),
        ("python", "EagerLocalExecute: __inference", 9.0),
    ]
    assert list(add_up_operations(events).items()) == [("Cast", 5.0), ("_MklMatMul", 4.0)]


class TestFile:
    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("report.txt", "must end in .html or .json"),
            ("no/report.html", "folder not found"),
            ("mine.html", "exists and is not a report of nano-run; choose another file"),
        ],
    )
    def test_an_invalid_report_file_is_rejected_before_the_run(
        self, nano_run: Command, tmp_path: Path, name: str, words: str
    ) -> None:
        (tmp_path / "mine.html").write_text("<html>mine</html>")
        (tmp_path / "s.py").write_text("print('ran')")
        result = nano_run(f"--report={name}", "s.py")
        assert (result.stdout, result.returncode) == ("", 2)
        assert words in result.stderr
        assert (tmp_path / "mine.html").read_text() == "<html>mine</html>"

    @pytest.mark.parametrize("name", ["r.html", "r.json"])
    def test_an_earlier_report_is_replaced(self, tmp_path: Path, name: str) -> None:
        path = str(tmp_path / name)
        for status in (0, 1):
            check_report_file(path)
            write_report(path, with_run(status=status))
        assert "1" in (tmp_path / name).read_text()
        assert [entry.name for entry in tmp_path.iterdir()] == [name]

    def test_a_dangling_symlink_is_not_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "r.html").symlink_to("gone")
        with pytest.raises(UsageError, match="is not a report"):
            check_report_file(str(tmp_path / "r.html"))

    @pytest.mark.parametrize("name", ["w.html", "w.json"])
    def test_a_file_that_the_program_wrote_during_the_run_is_not_replaced(
        self, nano_run: Command, tmp_path: Path, name: str
    ) -> None:
        (tmp_path / "s.py").write_text(f"open({name!r}, 'w').write('mine')")
        stem, ending = name.split(".")
        (tmp_path / f"{stem}-2.{ending}").write_text("mine, too")
        result = nano_run(f"--report={name}", "s.py")
        assert result.returncode == 0
        assert (
            f"nano-run: {name} was written during the run and is not a report; the report is in "
            f"{stem}-3.{ending}\n"
        ) in result.stderr
        assert (tmp_path / name).read_text() == "mine"
        assert (tmp_path / f"{stem}-2.{ending}").read_text() == "mine, too"
        check_report_file(str(tmp_path / f"{stem}-3.{ending}"))
        assert len(list(tmp_path.iterdir())) == 4

    def test_a_named_pipe_is_rejected_without_waiting(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "r.html")
        with pytest.raises(UsageError, match="is not a report"):
            check_report_file(str(tmp_path / "r.html"))

    @pytest.mark.parametrize("name", ["r.html", "r.json"])
    def test_a_name_that_is_not_utf8_is_escaped(self, tmp_path: Path, name: str) -> None:
        path = str(tmp_path / name)
        assert write_report(path, with_run(command="caf\udce9.py")) == path
        assert "caf\\udce9.py" in (tmp_path / name).read_text(encoding="utf-8")

    def test_an_interrupted_write_leaves_nothing_behind(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("os.replace", interrupt)
        (tmp_path / "r-2.html").write_text("mine")
        for name in ("q.html", "r-2.html"):  # a free name, and one that is taken
            with pytest.raises(KeyboardInterrupt):
                write_report(str(tmp_path / name), REPORT)
        assert [entry.name for entry in tmp_path.iterdir()] == ["r-2.html"]
