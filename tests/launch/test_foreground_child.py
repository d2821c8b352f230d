"""To the outside, a supervised program behaves like the program itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

SUPERVISOR = """
import os, sys
from nano_init.launch.command import Command
from nano_init.launch.foreground_child import end_like, run_in_foreground
command = Command((sys.executable, "-c", sys.argv[1]), {})
outcome = run_in_foreground(command, os.environ, lambda pid: None)
print("after", outcome.status, outcome.seconds > 0, outcome.usage.ru_maxrss > 0, flush=True)
sys.exit(end_like(outcome))
"""


def start(code: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, code],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


@pytest.mark.parametrize("status", [0, 1, 3, 255])
def test_the_supervisor_exits_with_the_programs_status(status: int) -> None:
    process = start(f"import sys; sys.exit({status})")
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (status, f"after {status} True True\n")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGTERM])
def test_the_signal_that_kills_the_program_kills_the_supervisor(number: signal.Signals) -> None:
    process = start(f"import os; os.kill(os.getpid(), {int(number)})")
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (-number, f"after {-number} True True\n")


WAITING = """
import signal, sys, time
def answer(number, frame):
    print("got", signal.Signals(number).name, flush=True)
    sys.exit(7)
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT):
    signal.signal(number, answer)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGINT"])
def test_a_signal_to_the_supervisor_is_forwarded_once_and_the_program_handles_it(name: str) -> None:
    process = start(WAITING)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(getattr(signal, name))
    out, _ = process.communicate(timeout=60)
    assert out == f"got {name}\nafter 7 True True\n"
    assert process.returncode == 7


def test_ctrl_c_reaches_the_program_once() -> None:
    """The terminal signals the whole process group; forwarding would deliver SIGINT twice."""
    code = (
        "import signal, time\n"
        "seen = []\n"
        "signal.signal(signal.SIGINT, lambda *a: seen.append(1))\n"
        "print('ready', flush=True)\n"
        "end = time.monotonic() + 2\n"
        "while time.monotonic() < end: time.sleep(0.05)\n"
        "print('seen', len(seen), flush=True)\n"
    )
    control, terminal = os.openpty()
    process = start(
        code,
        stdin=terminal,
        start_new_session=True,
        # Make it the controlling terminal of the session, as for a shell (tty_ioctl(4)).
        preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.write(control, b"\x03")
    out, _ = process.communicate(timeout=60)
    os.close(control)
    os.close(terminal)
    assert out == "seen 1\nafter 0 True True\n"


def test_the_program_starts_with_no_signals_blocked() -> None:
    code = "import signal; print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))"
    out, _ = start(code).communicate(timeout=60)
    assert out.splitlines()[0] == "[]"


def test_the_program_is_polled_at_intervals(tmp_path: Path) -> None:
    from nano_init.launch.command import Command
    from nano_init.launch.foreground_child import run_in_foreground

    seen: list[int] = []
    command = Command((sys.executable, "-c", "import time; time.sleep(0.5)"), {})
    begun = time.monotonic()
    outcome = run_in_foreground(command, os.environ, seen.append, every=0.05)
    assert len(seen) >= 2
    assert len(set(seen)) == 1
    assert 0.5 <= outcome.seconds <= time.monotonic() - begun
