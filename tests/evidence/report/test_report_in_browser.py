"""A browser shows the whole report. Opt in with NANO_TEST_BROWSER, for example "chromium"."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nano_init.evidence.doctor.tensorflow_facts import TensorFlowFacts
from nano_init.evidence.onednn.primitive_kinds import summarize
from nano_init.evidence.onednn.verbose_log import parse_verbose
from nano_init.evidence.report.counters import Usage
from nano_init.evidence.report.report_file import write_report
from nano_init.evidence.report.run_report import Report, Run, SampledSteps

VARIABLE = "NANO_TEST_BROWSER"

# A headless browser without background network requests.
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture
def browser() -> str:
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        pytest.skip(f"opt-in: set {VARIABLE} to the name of a Chromium")
    found = shutil.which(wanted)
    if found is None:
        pytest.skip(f"there is no {wanted} here")
    return found


@pytest.fixture
def report() -> Report:
    log = (Path(__file__).parents[1] / "onednn/onednn_logs/avx10_1_512_amx.log").read_text()
    run = Run(
        command="train.py --name '<b>&'",
        status=0,
        seconds=20.0,
        cpu_seconds=30.0,
        step_seconds=tuple(0.01 + 0.001 * (number % 7) for number in range(99)),
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
    operations = {"_MklMatMul": 60.0, "Cast": 5.0, "Erf": 3.0}
    sampled = SampledSteps(2, 0.01, summarize(parse_verbose(log.splitlines())), operations, (), 1.0)
    facts = TensorFlowFacts(
        tensorflow="2.21.0",
        gflops=(("float32", 200.0), ("bfloat16", 400.0)),
        gigabytes_a_second=20.0,
    )
    return Report(run, "mixed_bfloat16: a unit", "mixed_bfloat16", sampled, "", facts)


def test_a_browser_finds_every_plot_in_the_page(
    browser: str, report: Report, tmp_path: Path
) -> None:
    """A browser moves, closes or drops elements that are not well-formed."""
    path = write_report(str(tmp_path / "report.html"), report)
    (tmp_path / "profile").mkdir()
    command = [browser, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    result = subprocess.run(
        [*command, Path(path).as_uri()],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    plots = re.findall(r"<figure>\s*<svg.*?</svg>\s*</figure>", result.stdout, re.DOTALL)
    assert len(plots) == result.stdout.count("<svg") == 4
    line, kinds, operations, roofline = plots
    (points,) = re.findall(r'<polyline class="line"[^>]* points="([^"]*)"', line)
    assert len(points.split()) == 99
    assert report.sampled is not None
    assert len(re.findall(r'<rect class="bar', kinds)) == len(report.sampled.onednn.kinds)
    assert len(re.findall(r'<rect class="bar', operations)) == 3
    assert "_MklMatMul" in operations
    assert len(re.findall(r'class="roof"', roofline)) == 2
    assert len(re.findall(r'class="point"', roofline)) >= 3
    assert "&lt;b&gt;&amp;" in result.stdout
    assert "<b>" not in result.stdout
    assert re.search(r"<h2>Advice</h2>\s*<ul>\s*<li>", result.stdout)
