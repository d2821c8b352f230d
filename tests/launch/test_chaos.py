"""Random kills leave no process behind, cause no hang and lose no checkpoint.

NANO_TEST_KILLS sets how many processes are killed or stopped (default: 8). One fifth each: a
worker is killed, the chief is killed, the launcher is killed, a worker is stopped for good, a
worker is stopped for a while.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

START = "import sys; from nano_init.cli.run import main; sys.exit(main())"
KILLS = int(os.environ.get("NANO_TEST_KILLS", "8"))
STEPS = 30 * KILLS  # too many to finish between the kills

# Counts steps. After each step the chief alone writes a checkpoint, atomically. A barrier made of
# files stands in for the collectives of a training step.
SCRIPT = """
import json, os, sys, time
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
attempt = sys.argv[1] + "-" + os.environ["NANO_INIT_RESTARTS"]
def write(name, text):
    with open(f"{name}.{index}.new", "w") as file:
        file.write(text)
    os.replace(f"{name}.{index}.new", name)
def read(name, default):
    try:
        return open(name).read()
    except OSError:
        return default
write(f"pid{index}", str(os.getpid()))
step = int(read("checkpoint", "0"))
while step < int(sys.argv[2]):
    write(f"at-{attempt}-{step}-{index}", "")
    while not all(os.path.exists(f"at-{attempt}-{step}-{i}") for i in range(2)):
        time.sleep(0.01)
    time.sleep(0.02)
    step += 1
    if index == 0:
        # In this order: a step that is missing from the checkpoint is repeated.
        write(f"seen-{step}", "")
        write("checkpoint", str(step))
    while int(read("checkpoint", "0")) < step:
        time.sleep(0.01)
write(f"done{index}", str(step))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers need Linux"),
]


def test_random_kills_leave_nothing_behind_and_lose_no_checkpoint(environ, tmp_path):
    seed = int(os.environ.get("NANO_TEST_SEED", str(random.randrange(10**6))))
    print(f"NANO_TEST_SEED={seed}")
    dice = random.Random(seed)
    (tmp_path / "s.py").write_text(SCRIPT)
    launcher, run, last = None, 0, 0
    for victim in _victims(dice):
        deadline = time.monotonic() + 30
        while not _are_alive(tmp_path):
            assert time.monotonic() < deadline, "the workers were not restarted"
            if launcher is None or launcher.poll() is not None:
                _await_orphans(tmp_path)
                run += 1
                launcher = _start(environ, tmp_path, run, STEPS)
            time.sleep(0.05)
        time.sleep(dice.uniform(0, 1))
        _harm(victim, launcher, tmp_path, dice)
        reached = int(_read(tmp_path / "checkpoint", "0"))
        print(f"run {run}: {victim}, at step {reached}")
        assert last <= reached < STEPS, "a checkpoint was lost, or the job had finished"
        last = reached
    launcher.wait(timeout=60 + STEPS)
    _await_orphans(tmp_path)
    assert _start(environ, tmp_path, run + 1, STEPS).wait(timeout=60 + STEPS) == 0
    assert [(tmp_path / f"done{i}").read_text() for i in range(2)] == [str(STEPS)] * 2
    assert all((tmp_path / f"seen-{step}").exists() for step in range(1, STEPS + 1))


def _victims(dice):
    """Return the kinds of victims in random order, each equally often."""
    kinds = ["worker", "chief", "launcher", "stopped", "stopped for a while"]
    victims = kinds * -(-KILLS // len(kinds))
    dice.shuffle(victims)
    return victims[:KILLS]


def _harm(victim, launcher, folder, dice):
    """Kill or stop a process."""
    if victim == "launcher":
        _send(launcher.pid, signal.SIGKILL)
        launcher.wait()
        return
    index = {"worker": 1, "chief": 0}.get(victim, dice.randrange(2))
    pid = _pid(folder, index)
    if not victim.startswith("stopped"):
        _send(pid, signal.SIGKILL)
        return
    _send(pid, signal.SIGSTOP)
    if victim == "stopped":
        # The launcher ends the job when a worker has been stopped for 20 seconds.
        _await(lambda: not _is_alive(pid), 40, "a stopped worker blocks its job")
    else:
        time.sleep(dice.uniform(0.5, 3))
        _send(pid, signal.SIGCONT)


def _start(environ, folder, run, steps):
    return subprocess.Popen(
        [sys.executable, "-c", START, "-q", "--oversubscribe", "--nproc-per-node", "2",
         "--max-restarts", "3", "s.py", str(run), str(steps)],
        env=environ, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _await_orphans(folder: Path) -> None:
    def has_none() -> bool:
        return not any(_is_alive(_pid(folder, index)) for index in range(2))

    _await(has_none, 10, "a worker was left behind")


def _await(is_true: Callable[[], bool], seconds: float, complaint: str) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.05)


def _are_alive(folder: Path) -> bool:
    return all(_is_alive(_pid(folder, index)) for index in range(2))


def _is_alive(pid: int | None) -> bool:
    text = _read(Path(f"/proc/{pid}/stat"), "")
    return bool(text) and text.rpartition(") ")[2][0] != "Z" and b"s.py" in _command(pid)


def _command(pid: int | None) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _pid(folder: Path, index: int) -> int | None:
    text = _read(folder / f"pid{int(index)}", "")
    return int(text) if text else None


def _send(pid: int, number: int) -> None:
    if b"s.py" in _command(pid):  # the PID may belong to another process by now
        os.kill(pid, number)


def _read(path: Path, default: str) -> str:
    try:
        return path.read_text()
    except OSError:
        return default


def test_a_worker_that_is_stopped_briefly_does_not_end_the_job(environ, tmp_path):
    (tmp_path / "s.py").write_text(SCRIPT)
    launcher = _start(environ, tmp_path, 0, 20)
    deadline = time.monotonic() + 20
    while (pid := _pid(tmp_path, 1)) is None or _pid(tmp_path, 0) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(2)
    os.kill(pid, signal.SIGCONT)

    assert launcher.wait(timeout=60) == 0
    assert json.loads((tmp_path / "done1").read_text()) == 20
