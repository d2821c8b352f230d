"""Run a pair's tests in its environment and count what came out."""

from __future__ import annotations

import json
import os
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Counts", "Versions", "read_counts", "read_versions", "run_suite"]

ROOT = Path(__file__).resolve().parents[2]
_STRAY = ("NANO_", "OMP_", "KMP_", "TF_", "ONEDNN_", "PYTHON", "KERAS_")
_VERSIONS = """
import json, platform, sys
import keras, tensorflow, tf_keras
modules = {"tensorflow": tensorflow, "keras": keras, "tf_keras": tf_keras}
found = {name: module.__version__ for name, module in modules.items()}
print(json.dumps({**found, "python": platform.python_version()}))
"""


@dataclass(frozen=True)
class Versions:
    """What an environment holds."""

    tensorflow: str
    keras: str
    tf_keras: str
    python: str


@dataclass(frozen=True)
class Counts:
    """How many tests of a suite did what.

    Args:
        passed: They passed, or failed as expected.
        failed: They failed, or their set-up did.
        skipped: They were skipped.
    """

    passed: int
    failed: int
    skipped: int


def read_versions(python: Path) -> Versions:
    """Return the versions in an environment.

    Raises:
        RuntimeError: TensorFlow or Keras cannot be imported there.
    """
    done = subprocess.run(
        [str(python), "-c", _VERSIONS], env=_environ(python), capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no output"])[-1])
    return Versions(**json.loads(done.stdout.splitlines()[-1]))


def _share_of_process(paths: Sequence[str], processes: int) -> str:
    """Return what pytest gives a process at once: a file, or a test where there are few files."""
    are_few = len(paths) <= processes and all((ROOT / path).is_file() for path in paths)
    return "worksteal" if are_few else "loadfile"


def run_suite(
    python: Path, paths: Sequence[str], processes: int, log: Path, required: str = ""
) -> Counts | None:
    """Run tests in an environment; return None where the checkout has none of them yet.

    Args:
        python: The environment's interpreter.
        paths: Files and folders below the checkout's root.
        processes: How many run at the same time.
        log: Where pytest's output goes; its report goes next to it.
        required: What no test may be skipped for want of, as in `NANO_TEST_REQUIRE`.

    Raises:
        RuntimeError: pytest came to no result.
    """
    there = [path for path in paths if (ROOT / path).exists()]
    if not there:
        return None
    report = log.with_suffix(".xml")
    report.unlink(missing_ok=True)
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    if processes > 1:
        command += ["-n", str(processes), "--dist", _share_of_process(there, processes)]
    with log.open("w", encoding="utf-8") as output:
        subprocess.run(
            [*command, *there],
            cwd=ROOT,
            env={**_environ(python), "NANO_TEST_REQUIRE": required},
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if not report.is_file():
        raise RuntimeError(f"pytest came to no result; see {log}")
    return read_counts(report)


def read_counts(report: Path) -> Counts:
    """Return the counts of a report in JUnit's format."""
    # Written by the pytest that has just run.
    suites = list(ElementTree.parse(report).getroot().iter("testsuite"))  # noqa: S314
    total, failed, skipped = (
        sum(int(suite.get(name, 0)) for suite in suites for name in names)
        for names in (["tests"], ["failures", "errors"], ["skipped"])
    )
    return Counts(total - failed - skipped, failed, skipped)


def _environ(python: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_STRAY)}
    path = os.pathsep.join([str(python.parent), kept.get("PATH", "")])
    return {**kept, "PATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
