"""Whatever is killed, nothing is left behind, nothing hangs, and no checkpoint is lost.

NANO_TEST_KILLS sets how many kills there shall be (8 without it, each within seconds).
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

import pytest

START = "import sys; from nano_init.cli.run import main; sys.exit(main())"
KILLS = int(os.environ.get("NANO_TEST_KILLS", "8"))

# Counts to 20 with a checkpoint after each step, which only the chief writes, whole; a barrier
# of files stands for the collectives that a training step waits in.
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
while step < 20:
    write(f"at-{attempt}-{step}-{index}", "")
    while not all(os.path.exists(f"at-{attempt}-{step}-{i}") for i in range(2)):
        time.sleep(0.01)
    time.sleep(0.02)
    step += 1
    if index == 0:
        write("checkpoint", str(step))
        write(f"seen-{step}", "")
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
    for _ in range(KILLS):
        if launcher is None or launcher.poll() is not None:
            _await_orphans(tmp_path)
            run += 1
            launcher = _start(environ, tmp_path, run)
        time.sleep(dice.uniform(0.3, 1.5))
        victim = dice.choice(["worker", "chief", "launcher"])
        pid = launcher.pid if victim == "launcher" else _pid(tmp_path, victim != "chief")
        if pid is not None:
            _kill(pid)
        if victim == "launcher":
            launcher.wait()
        reached = int(_read(tmp_path / "checkpoint", "0"))
        assert reached >= last, "a checkpoint was lost"
        last = reached
    if launcher.poll() is None:
        launcher.wait(timeout=60)
    _await_orphans(tmp_path)
    assert _start(environ, tmp_path, run + 1).wait(timeout=60) == 0
    assert (tmp_path / "done0").read_text() == (tmp_path / "done1").read_text() == "20"
    assert all((tmp_path / f"seen-{step}").exists() for step in range(1, 21))


def _start(environ, folder, run):
    return subprocess.Popen(
        [sys.executable, "-c", START, "-q", "--oversubscribe", "--nproc-per-node", "2",
         "--max-restarts", "3", "s.py", str(run)],
        env=environ, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _await_orphans(folder: Path) -> None:
    deadline = time.monotonic() + 10
    while any(_is_alive(_pid(folder, index)) for index in range(2)):
        assert time.monotonic() < deadline, "a worker is left behind"
        time.sleep(0.05)


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


def _kill(pid: int) -> None:
    if b"s.py" in _command(pid):  # the number may be another process's by now
        os.kill(pid, signal.SIGKILL)


def _read(path: Path, default: str) -> str:
    try:
        return path.read_text()
    except OSError:
        return default


def test_a_stopped_peer_that_goes_on_is_forgiven(environ, tmp_path):
    (tmp_path / "s.py").write_text(SCRIPT)
    launcher = _start(environ, tmp_path, 0)
    deadline = time.monotonic() + 20
    while (pid := _pid(tmp_path, 1)) is None or _pid(tmp_path, 0) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(2)
    os.kill(pid, signal.SIGCONT)

    assert launcher.wait(timeout=60) == 0
    assert json.loads((tmp_path / "done1").read_text()) == 20
