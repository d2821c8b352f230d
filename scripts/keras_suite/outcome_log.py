"""A plugin of pytest: write each test's outcome as it comes, so that a crash loses one only.

It is loaded with the tests of another project, in their process.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pytest

VARIABLE = "KERAS_SUITE_OUTCOMES"


def pytest_runtest_logstart(nodeid: str) -> None:
    """Note that a test begins."""
    _write(nodeid, "crashed", "the process ended in it")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what a test came to: its call's outcome, or that of a set-up that did not pass."""
    if report.when == "call" or report.outcome != "passed":
        _write(report.nodeid, report.outcome, _last_line(report))


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Note a file that cannot be collected."""
    if report.outcome != "passed":
        _write(report.nodeid, report.outcome, _last_line(report))


def _last_line(report: pytest.TestReport | pytest.CollectReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr or "")
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[0][:200] if lines else ""


def _write(nodeid: str, outcome: str, message: str) -> None:
    with open(os.environ[VARIABLE], "a", encoding="utf-8") as log:
        log.write(json.dumps([nodeid, outcome, message]) + "\n")
