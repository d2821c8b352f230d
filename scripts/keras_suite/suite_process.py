"""Run some of Keras's test files in one process, plain or under nano-run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Outcome", "SuiteRun", "run_tests"]

_HERE = Path(__file__).resolve().parent
_LAUNCH = "import sys; from nano_init.cli.run import main; sys.exit(main())"
_STRAY = ("NANO_", "OMP_", "KMP_", "TF_", "ONEDNN_", "PYTHON", "KERAS_")
_KEPT = ("NANO_INIT_DISABLE", "NANO_INIT_UNVERIFIED")


@dataclass(frozen=True)
class Outcome:
    """What a test came to.

    Args:
        outcome: `"passed"`, `"failed"`, `"skipped"`, `"crashed"` or `"timed out"`.
        message: The first line of its error or reason.
    """

    outcome: str
    message: str = ""


@dataclass(frozen=True)
class SuiteRun:
    """How the tests are run.

    Args:
        folder: The root of Keras's source tree; its own Keras is the one that is tested.
        precision: That of the patch; None runs plain Keras.
        seconds: How long one test file may take.
        python: The interpreter.
    """

    folder: Path
    precision: str | None
    seconds: float
    python: str = sys.executable

    @property
    def label(self) -> str:
        """What the output calls it."""
        return f"patched ({self.precision})" if self.precision else "plain"


def run_tests(run: SuiteRun, tests: Sequence[str]) -> dict[str, Outcome]:
    """Return what each test came to, by its name in pytest.

    A process that crashes or takes too long ends the tests that come after; they are then run
    once more, one file a process.

    Args:
        run: How.
        tests: Files or names of tests, relative to the folder.
    """
    found, is_whole = _run_once(run, tests)
    if is_whole or len(tests) == 1:
        return found
    alone = [_run_once(run, [test])[0] for test in tests]
    return {name: outcome for part in alone for name, outcome in part.items()}


def _run_once(run: SuiteRun, tests: Sequence[str]) -> tuple[dict[str, Outcome], bool]:
    plugins = ["-p", "outcome_log", "-p", "no:cacheprovider", "-p", "no:randomly"]
    start = [run.python]
    if run.precision:
        start += ["-c", _LAUNCH, "--precision", run.precision]
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch, "outcomes")
        command = [*start, "-m", "pytest", "-q", *plugins, f"--rootdir={run.folder}", *tests]
        environ = _environ(log)
        status = _call(command, run.folder, environ, run.seconds * len(tests), Path(scratch))
        text = log.read_text(encoding="utf-8") if log.exists() else ""
    found = {name: Outcome(*rest) for name, *rest in map(json.loads, text.splitlines())}
    if status == "timed out":
        found = {n: _timed_out(o) if o.outcome == "crashed" else o for n, o in found.items()}
    # 0: all passed, 1: some failed, 5: there are none.
    return found, status in (0, 1, 5)


def _timed_out(outcome: Outcome) -> Outcome:
    return Outcome("timed out", outcome.message)


def _call(
    command: Sequence[str], cwd: Path, environ: dict[str, str], seconds: float, scratch: Path
) -> int | str:
    with open(scratch / "output", "w", encoding="utf-8") as output:
        try:
            return subprocess.run(
                command,
                cwd=cwd,
                env=environ,
                stdout=output,
                stderr=output,
                timeout=seconds,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return "timed out"


def _environ(log: Path) -> dict[str, str]:
    kept = {n: v for n, v in os.environ.items() if not n.startswith(_STRAY) or n in _KEPT}
    path = os.pathsep.join([str(_HERE), str(_HERE.parents[1])])
    added = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return {**kept, **added, "PYTHONPATH": path, "KERAS_SUITE_OUTCOMES": str(log)}
