"""Workers that a running script starts: their output, their exit, and the script's exit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="workers are bound and watched over on Linux"
)

# Stands in for the script: starts two workers of the program in its folder.
SCRIPT = """
import os, sys
from nano_init.process_calls.launcher_process import run_processes
from nano_init.protocol.call_job import CallJob, said_path
from nano_init.protocol.patch_options import PatchOptions
folder = sys.argv[1]
job = CallJob(folder, 2, os.path.join(folder, "w.py"), os.getpid(), tuple(sys.path), ("a", "b"),
              PatchOptions("float32"))
try:
    print("status", run_processes(job, os.environ))
except KeyboardInterrupt:
    print("interrupted")
if os.path.exists(said_path(folder)):
    print("said", open(said_path(folder)).read().strip())
"""

WORKER = """
import json, os, sys, time
from nano_init.distributed.worker_startup import current_membership
folder, index = sys.argv[1], json.loads(os.environ["TF_CONFIG"])["task"]["index"]
def mark(name):
    open(os.path.join(folder, f"{name}{index}"), "w").write(str(os.getpid()))
"""


def start(environ, folder: Path, worker: str, **options) -> subprocess.Popen[str]:
    (folder / "w.py").write_text(WORKER + worker)
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder)],
        env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


def run(environ, folder: Path, worker: str) -> tuple[str, str]:
    return start(environ, folder, worker).communicate(timeout=60)


@pytest.fixture
def worker_pids(await_true):
    """Return a function that waits for both workers in a folder and returns their process IDs."""

    def wait(folder: Path) -> list[int]:
        paths = [folder / "pid0", folder / "pid1"]
        await_true(lambda: all(path.exists() and path.read_text() for path in paths), 30)
        return [int(path.read_text()) for path in paths]

    return wait


def test_workers_form_a_job_and_the_script_shows_the_chiefs_output(environ, tmp_path) -> None:
    worker = """
print("number", index, current_membership().workers, "NANO_INIT_PATCH" in os.environ)
print("trouble", index, file=sys.stderr)
"""
    out, err = run(environ, tmp_path, worker)

    assert out == "number 0 2 True\nstatus 0\n"
    assert err == "trouble 0\n"


def test_workers_ignore_the_job_that_the_script_runs_in(environ, tmp_path) -> None:
    config = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}'
    outer = {"TF_CONFIG": config, "SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_JOB_ID": "7"}
    out, _ = run({**environ, **outer}, tmp_path, "print(index, current_membership().workers)")

    assert out == "0 2\nstatus 0\n"


def test_the_script_gets_the_failed_workers_status_and_message(environ, tmp_path) -> None:
    worker = "if index: os.kill(os.getpid(), 9)\ntime.sleep(60)"
    out, _ = run(environ, tmp_path, worker)

    assert out.startswith("status 137\nsaid worker 1 (process ")
    assert out.endswith(" was killed by SIGKILL\n")


def test_ctrl_c_interrupts_each_worker_once(environ, tmp_path, worker_pids, is_alive) -> None:
    worker = """
mark("pid")
try:
    time.sleep(60)
except KeyboardInterrupt:
    print("worker interrupted", flush=True)
    sys.exit(130)
"""
    script = start(environ, tmp_path, worker, start_new_session=True)
    pids = worker_pids(tmp_path)
    os.killpg(script.pid, signal.SIGINT)  # as a terminal does
    out, _ = script.communicate(timeout=60)

    assert out == "worker interrupted\ninterrupted\n"
    assert not any(map(is_alive, pids))


def test_a_second_interrupt_ends_workers_that_ignore_the_first(
    environ, tmp_path, worker_pids, is_alive
) -> None:
    worker = "import signal\nsignal.signal(2, signal.SIG_IGN)\nmark('pid')\ntime.sleep(60)"
    script = start(environ, tmp_path, worker)
    pids = worker_pids(tmp_path)
    begun = time.monotonic()
    for _ in range(2):
        script.send_signal(signal.SIGINT)
        time.sleep(1)
    out, _ = script.communicate(timeout=60)

    assert out == "interrupted\n"
    assert time.monotonic() - begun < 12  # after the first one alone, workers have 15 s
    assert not any(map(is_alive, pids))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killing_the_script_ends_the_workers_and_removes_their_files(
    environ, tmp_path, worker_pids, await_true, is_alive, number: int
) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    script = start(environ, folder, "mark('pid')\ntime.sleep(60)")
    pids = worker_pids(folder)
    script.send_signal(number)
    script.communicate(timeout=60)

    await_true(lambda: not any(map(is_alive, pids)), 15)
    await_true(lambda: not folder.exists(), 10)
