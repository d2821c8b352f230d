"""A sampling process that gets a signal ends its children and removes its temporary files."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

SIGNALS = [signal.SIGTERM, signal.SIGHUP]

SAMPLING = """
import signal, sys, tempfile
{before}
from nano_init.evidence.sampling.signal_cleanup import cleanup_on_signals
kept = []
with cleanup_on_signals():
    try:
        with tempfile.TemporaryDirectory() as folder:
            kept.append(tempfile.TemporaryDirectory())  # which is never closed
            print("ready", flush=True)
            signal.raise_signal(signal.{name})
            print("goes on", flush=True)
    finally:
        signal.raise_signal(signal.{name})
        print("cleaned up", flush=True)
print("after", flush=True)
"""


def run(environ: dict[str, str], tmp_path: Path, **parts: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SAMPLING.format(**parts)],
        env={**environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("number", SIGNALS)
def test_cleanup_runs_once_and_the_process_ends_by_the_signal(
    environ: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    done = run(environ, tmp_path, before="", name=number.name)
    assert (done.stdout, done.stderr) == ("ready\ncleaned up\n", "")
    assert done.returncode == -number
    assert list(tmp_path.iterdir()) == []


def test_an_ignored_signal_stays_ignored(environ: dict[str, str], tmp_path: Path) -> None:
    """As SIGHUP is under nohup(1)."""
    before = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    done = run(environ, tmp_path, before=before, name="SIGHUP")
    assert done.stdout == "ready\ngoes on\ncleaned up\nafter\n"
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("option", ["--compare", "--tune"])
def test_a_sampling_nano_run_leaves_nothing_behind(
    environ: dict[str, str], tmp_path: Path, option: str, number: signal.Signals
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (tmp_path / "s.py").write_text("import time; time.sleep(600)")
    start = "import sys; from nano_init.cli.run import main; sys.exit(main())"
    with subprocess.Popen(
        [sys.executable, "-c", start, option, "-q", "s.py"],
        env={**environ, "TMPDIR": str(scratch), "XDG_CACHE_HOME": str(tmp_path / "cache")},
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        end = time.monotonic() + 60
        while not list(scratch.iterdir()) or len(running(scratch)) < 2:
            assert process.stderr is not None
            if process.poll() is not None and "copy-on-write" in (said := process.stderr.read()):
                pytest.skip(said)
            assert process.returncode is None
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(60) == -number
    assert running(scratch) == []
    assert list(scratch.iterdir()) == []


def running(scratch: Path) -> list[psutil.Process]:
    """Return the processes whose TMPDIR is this folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            is_alive = process.status() != psutil.STATUS_ZOMBIE
            if is_alive and process.environ().get("TMPDIR") == str(scratch):
                found.append(process)
    return found
