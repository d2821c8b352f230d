"""Whatever stdin, stdout and stderr are, a command keeps its exit code and has no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = {
    "table": "init --print",
    "data": "init --format docker",
    "code": "init --shell sh",
    "help": "init --help",
    "dry run": "run --dry-run s.py",
}


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "s.py"
    path.write_text("open('ran', 'a').close()")
    return path


def shell(
    environ: dict[str, str], folder: Path, command: str, redirection: str
) -> subprocess.CompletedProcess[str]:
    """Run one of our commands in a shell that redirects its streams."""
    module, *arguments = command.split()
    start = f"import sys; from nano_init.cli.{module} import main; sys.exit(main())"
    return subprocess.run(
        ["sh", "-c", f'"$0" -c "$@" {redirection}', sys.executable, start, *arguments],
        env=environ,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_full_disk_is_reported_in_one_sentence(
    environ: dict[str, str], script: Path, command: str
) -> None:
    result = shell(environ, script.parent, command, ">/dev/full")
    assert result.returncode == 2
    assert result.stderr == (
        f"nano-{command.split()[0]}: the output cannot be written: No space left on device\n"
    )


@pytest.mark.parametrize("command", [c for c in COMMANDS.values() if "help" not in c])
def test_a_closed_stdout_is_reported_in_one_sentence(
    environ: dict[str, str], script: Path, command: str
) -> None:
    result = shell(environ, script.parent, command, ">&-")
    assert result.returncode == 2
    assert result.stderr == (
        f"nano-{command.split()[0]}: the output cannot be written: Bad file descriptor\n"
    )


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_closed_pipe_is_not_reported(environ: dict[str, str], script: Path, command: str) -> None:
    module, *arguments = command.split()
    start = f"import sys; from nano_init.cli.{module} import main; sys.exit(main())"
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(
        [sys.executable, "-c", start, *arguments],
        env=environ,
        cwd=script.parent,
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (result.stderr, result.returncode) == (b"", 1)


@pytest.mark.parametrize(
    "redirection", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full"]
)
def test_a_script_runs_whatever_its_streams_are(
    environ: dict[str, str], script: Path, redirection: str
) -> None:
    if "/dev/full" in redirection and not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    result = shell(environ, script.parent, "run s.py", redirection)
    assert result.returncode == 0, result.stderr
    assert (script.parent / "ran").exists()
