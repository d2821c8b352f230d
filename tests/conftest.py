"""Fixtures shared by the whole suite: the commands, run as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["longest_first", "required_tests"]

# A slow example on a busy machine does not fail a property.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

REPOSITORY = Path(__file__).resolve().parent.parent

# Stand-ins for packages that Keras imports if installed, but that no test program uses.
LEAN_IMPORTS = REPOSITORY / "tests" / "lean_imports"

Run = Callable[..., "subprocess.CompletedProcess[str]"]

# Variables of the test machine that would change the output of the commands.
_STRAY = ("NANO_", "OMP_", "KMP_", "TF_", "ONEDNN_", "SLURM_", "OMPI_", "PMI_", "LOCAL_")


@pytest.fixture
def environ() -> dict[str, str]:
    """The environment of a fresh shell in which the package can be imported."""
    return _fresh_environ()


def _fresh_environ() -> dict[str, str]:
    """Hide scikit-learn, matplotlib and pandas, which makes `import keras` a third faster."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith((*_STRAY, "PYTHON"))}
    path = os.pathsep.join(map(str, (REPOSITORY, LEAN_IMPORTS)))
    return {**kept, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "2"}


def _runner(module: str, environ: dict[str, str], cwd: Path) -> Run:
    start = f"import sys; from nano_init.cli.{module} import main; sys.exit(main())"

    def run(
        *arguments: str, env: dict[str, str | None] | None = None, **options: object
    ) -> subprocess.CompletedProcess[str]:
        merged = {**environ, **(env or {})}
        return subprocess.run(
            [sys.executable, "-c", start, *arguments],
            env={name: value for name, value in merged.items() if value is not None},
            cwd=options.pop("cwd", cwd),
            text=True,
            capture_output=True,
            timeout=300,
            check=False,
            **options,
        )

    return run


@pytest.fixture
def nano_run(environ: dict[str, str], tmp_path: Path) -> Run:
    """Run `nano-run` in an empty folder; returns the finished process."""
    return _runner("run", environ, tmp_path)


@pytest.fixture(scope="module")
def nano_run_once(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run `nano-run` for all tests of a file; returns the finished process."""
    return _runner("run", _fresh_environ(), tmp_path_factory.mktemp("once"))


@pytest.fixture
def nano_init_command(environ: dict[str, str], tmp_path: Path) -> Run:
    """Run `nano-init` in an empty folder; returns the finished process."""
    return _runner("init", environ, tmp_path)


@pytest.fixture
def python(environ: dict[str, str], tmp_path: Path) -> Run:
    """Run plain `python` in the same folder and environment, for comparison."""

    def run(
        *arguments: str, env: dict[str, str] | None = None, **options: object
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            env={**environ, **(env or {})},
            cwd=options.pop("cwd", tmp_path),
            text=True,
            capture_output=True,
            timeout=300,
            check=False,
            **options,
        )

    return run


@pytest.fixture
def await_true() -> Callable[..., None]:
    """Return a function that waits until a condition holds."""

    def wait(condition: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)

    return wait


@pytest.fixture
def is_alive() -> Callable[[int], bool]:
    """Return a function that checks whether a process runs; a zombie counts as ended."""

    def check(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
        except OSError:
            return False

    return check
