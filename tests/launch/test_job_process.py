"""Workers of programs without TensorFlow: start, output, failure and exit, bounded in time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
START = "import sys; from nano_init.cli.run import main; sys.exit(main())"

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="workers are bound and watched over on Linux"
)

# Prepended to the scripts below: the worker's index, and files as signals between processes.
PREAMBLE = """
import json, os, signal, sys, time
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
def mark(name, text=""):
    with open(f"{name}.new", "w") as file:
        file.write(text)
    os.replace(f"{name}.new", name)
def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.02)
mark(f"pid{index}", str(os.getpid()))
"""


@pytest.fixture
def job(nano_run: Run, tmp_path: Path) -> Run:
    """Run a script on workers that may share cores."""

    def run(script: str, *options: str, workers: int = 2, arguments=(), **settings):
        (tmp_path / "s.py").write_text(PREAMBLE + script)
        flags = ("-q", "--oversubscribe", "--nproc-per-node", str(workers), *options)
        return nano_run(*flags, "s.py", *arguments, **settings)

    return run


@pytest.fixture
def started(environ: dict[str, str], tmp_path: Path):
    """Start such a job, and return its launcher once all workers have started."""
    launchers = []

    def start(script: str, *options: str, workers: int = 2) -> subprocess.Popen[str]:
        (tmp_path / "s.py").write_text(PREAMBLE + script)
        flags = ("-q", "--oversubscribe", "--nproc-per-node", str(workers), *options)
        launcher = subprocess.Popen(
            [sys.executable, "-c", START, *flags, "s.py"],
            env=environ, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        launchers.append(launcher)
        _wait(lambda: all((tmp_path / f"pid{i}").exists() for i in range(workers)))
        return launcher

    yield start
    for launcher in launchers:
        launcher.kill()
        launcher.communicate()


def _wait(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return False
    return state != "Z"


def _pids(folder: Path) -> list[int]:
    return [int(path.read_text()) for path in folder.glob("pid*") if path.suffix != ".new"]


def test_each_worker_knows_its_number_and_all_addresses(job: Run, tmp_path: Path) -> None:
    script = "mark(f'config{index}', os.environ['TF_CONFIG'])"

    assert job(script, workers=3).returncode == 0
    configs = [json.loads((tmp_path / f"config{i}").read_text()) for i in range(3)]
    assert [c["task"] for c in configs] == [{"type": "worker", "index": i} for i in range(3)]
    workers = configs[0]["cluster"]["worker"]
    assert all(config["cluster"]["worker"] == workers for config in configs)
    assert len(set(workers)) == 3


def test_a_worker_gets_the_scripts_arguments_environment_and_main(job: Run) -> None:
    script = "print(sys.argv[1:], __name__, os.environ['MINE'], 'NANO_INIT_WORKER' in os.environ)"

    result = job(script, arguments=["--a", "b c"], env={"MINE": "x"})
    assert result.stdout == "['--a', 'b c'] __main__ x False\n"
    assert result.stderr == ""


def test_unseeded_randomness_is_equal_on_all_workers_and_differs_between_runs(
    job: Run, tmp_path: Path
) -> None:
    pytest.importorskip("numpy")
    script = (
        "import random, numpy as np\n"
        "drawn = [random.random(), np.random.rand(), np.random.default_rng().random(),"
        " list({'a', 'b', 'c', 'd', 'e'})]\n"
        "mark(f'drawn{index}', json.dumps(drawn))"
    )
    runs = []
    for _ in range(2):
        assert job(script).returncode == 0
        drawn = [json.loads((tmp_path / f"drawn{i}").read_text()) for i in range(2)]
        assert drawn[0] == drawn[1]
        runs.append(drawn[0])
    assert runs[0][:3] != runs[1][:3]


def test_only_the_chiefs_output_is_shown(job: Run) -> None:
    result = job("print('out', index); print('err', index, file=sys.stderr)")

    assert (result.stdout, result.stderr) == ("out 0\n", "err 0\n")


def test_tee_prefixes_each_workers_lines_with_its_number(job: Run) -> None:
    script = "print('a\\rb', index); print('err', index, file=sys.stderr); print('end', end='')"

    result = job(script, "--tee")
    assert sorted(result.stdout.splitlines()) == ["[0] b 0", "[0] end", "[1] b 1", "[1] end"]
    assert sorted(result.stderr.splitlines()) == ["[0] err 0", "[1] err 1"]


def test_each_workers_log_has_its_full_output(job: Run, tmp_path: Path) -> None:
    result = job("print('out', index); print('err', index, file=sys.stderr)", "--log-dir", "logs")

    assert (result.stdout, result.stderr) == ("out 0\n", "err 0\n")
    for index in range(2):
        lines = (tmp_path / "logs" / f"worker-{index}.log").read_text().splitlines()
        assert sorted(lines) == [f"err {index}", f"out {index}"]


def test_a_log_folder_that_cannot_be_created_is_reported(job: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = job("", "--log-dir", "file/logs")

    assert result.returncode == 2
    assert result.stderr.startswith("nano-run: --log-dir 'file/logs' cannot be created")


def test_a_script_from_stdin_reaches_every_worker(nano_run: Run, tmp_path: Path) -> None:
    flags = ("-q", "--oversubscribe", "--nproc-per-node", "2")
    result = nano_run(*flags, "-", input=f"{PREAMBLE}print(index)")

    assert result.stdout == "0\n"
    assert len(_pids(tmp_path)) == 2


def test_workers_read_an_empty_stdin(job: Run) -> None:
    assert job("print(repr(sys.stdin.read()))", input="text").stdout == "''\n"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two hardware threads")
def test_workers_are_bound_to_disjoint_hardware_threads(nano_run: Run, tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(
        f"{PREAMBLE}mark(f'mask{{index}}', json.dumps(sorted(os.sched_getaffinity(0))))"
    )
    result = nano_run("-q", "--nproc-per-node", "2", "s.py")
    if "more than the 1 core" in result.stderr:
        pytest.skip("there is one core only, or a quota of one")

    masks = [set(json.loads((tmp_path / f"mask{i}").read_text())) for i in range(2)]
    assert all(masks)
    assert not masks[0] & masks[1]


@pytest.mark.parametrize("failing", [0, 1])
def test_the_job_ends_with_the_failed_workers_traceback_and_status(
    job: Run, tmp_path: Path, failing: int
) -> None:
    script = (
        f"if index == {failing}:\n"
        f"    wait_for('pid{1 - failing}')\n"
        "    raise ValueError('my own failure')\n"
        "time.sleep(60)"
    )
    start = time.monotonic()
    result = job(script)

    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "ValueError: my own failure"
    assert result.stderr.count("Traceback") == 1
    assert time.monotonic() - start < 30
    assert not any(map(_is_alive, _pids(tmp_path)))


def test_the_first_failure_is_reported_not_its_consequences(job: Run) -> None:
    script = (
        "if index == 1:\n"
        "    wait_for('pid0')\n"
        "    sys.excepthook, hook = lambda *e: (hook(*e), mark('told'), time.sleep(0.5)), "
        "sys.excepthook\n"
        "    raise ValueError('cause')\n"
        "wait_for('told')\n"
        "raise ConnectionError('consequence')"
    )
    result = job(script)

    assert result.stderr.splitlines()[-1] == "ValueError: cause"


def test_an_error_on_all_workers_is_reported_once(job: Run) -> None:
    result = job("wait_for(f'pid{1 - index}')\nraise ValueError('the same')")

    assert result.returncode == 1
    assert result.stderr.count("ValueError: the same") == 1


@pytest.mark.parametrize("slow", [0, 1])
def test_a_failed_worker_that_exits_slowly_keeps_its_status(job: Run, slow: int) -> None:
    script = (
        "import atexit\n"
        f"if index == {slow}: atexit.register(time.sleep, 60)\n"
        "wait_for(f'pid{1 - index}')\n"
        "raise ValueError('the same')"
    )
    result = job(script)

    assert result.returncode == 1
    assert "SIGTERM" not in result.stderr
    assert result.stderr.count("ValueError: the same") == 1


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ("sys.exit(7)", 7),
        ("os._exit(9)", 9),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137),
        ("os.kill(os.getpid(), signal.SIGSEGV)", 139),
    ],
)
def test_the_exit_status_is_the_workers_or_128_plus_its_signal(
    job: Run, how: str, status: int
) -> None:
    result = job(f"if index == 1: {how}\ntime.sleep(60)")

    assert result.returncode == status
    assert "worker 1 (process " in result.stderr


def test_a_worker_that_finishes_early_waits_for_its_peers(job: Run, tmp_path: Path) -> None:
    script = (
        "if index == 1:\n"
        "    time.sleep(1)\n"
        "    mark('peer', open('/proc/%s/stat' % open('pid0').read()).read().split()[2])"
    )
    assert job(script).returncode == 0
    assert (tmp_path / "peer").read_text() in ("S", "R")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_launcher_ends_all_workers(
    started, tmp_path: Path, number: int, status: int
) -> None:
    launcher = started("time.sleep(60)")
    launcher.send_signal(number)
    launcher.communicate(timeout=30)

    assert launcher.returncode == status
    assert not any(map(_is_alive, _pids(tmp_path)))


def test_a_script_that_handles_a_signal_may_exit_with_0(started, tmp_path: Path) -> None:
    launcher = started(
        "signal.signal(signal.SIGTERM, lambda *_: (mark(f'saved{index}'), sys.exit(0)))\n"
        "mark(f'ready{index}')\n"
        "time.sleep(60)"
    )
    _wait(lambda: all((tmp_path / f"ready{i}").exists() for i in range(2)))
    launcher.terminate()
    launcher.communicate(timeout=30)

    assert launcher.returncode == 0
    assert all((tmp_path / f"saved{i}").exists() for i in range(2))


@pytest.mark.slow
def test_a_stopped_worker_ends_the_job_and_is_reported(started, tmp_path: Path) -> None:
    launcher = started("time.sleep(120)")
    pid = int((tmp_path / "pid1").read_text())
    os.kill(pid, signal.SIGSTOP)
    _, errors = launcher.communicate(timeout=60)

    assert launcher.returncode == 128 + signal.SIGSTOP
    assert f"worker 1 (process {pid}) has been stopped" in errors
    assert not any(map(_is_alive, _pids(tmp_path)))


def test_a_worker_that_does_not_start_tensorflow_in_time_is_reported(job: Run) -> None:
    script = (
        "from nano_init.distributed.worker_startup import report_status\n"
        "if index == 0: report_status('joined')\ntime.sleep(60)"
    )
    result = job(script, "--start-timeout", "1")

    assert result.returncode == 1
    assert "worker 1 (process " in result.stderr
    assert "has not started TensorFlow 1 s after worker 0 did" in result.stderr


def test_a_single_worker_runs_in_the_process_of_nano_run_without_tf_config(
    nano_run: Run, tmp_path: Path
) -> None:
    (tmp_path / "s.py").write_text("import os; print(os.getppid(), os.environ.get('TF_CONFIG'))")
    result = nano_run("-q", "--nproc-per-node", "1", "s.py")

    assert result.stdout == f"{os.getpid()} None\n"


@pytest.mark.parametrize("asked", [("--nproc-per-node", "1"), ()])
def test_a_single_worker_can_be_restarted(
    nano_run: Run, tmp_path: Path, asked: tuple[str, ...]
) -> None:
    (tmp_path / "s.py").write_text(
        "import os, sys; sys.exit(int(os.environ['NANO_INIT_RESTARTS']) < 1)"
    )
    result = nano_run("-q", *asked, "--max-restarts", "1", "s.py")

    assert result.returncode == 0, result.stderr


def test_a_second_interrupt_ends_workers_that_ignore_the_first(started, tmp_path: Path) -> None:
    launcher = started(
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\nmark(f'ready{index}')\ntime.sleep(60)"
    )
    _wait(lambda: all((tmp_path / f"ready{i}").exists() for i in range(2)))
    launcher.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert all(map(_is_alive, _pids(tmp_path)))
    launcher.send_signal(signal.SIGINT)
    launcher.communicate(timeout=30)

    assert launcher.returncode == 130


def test_killing_the_launcher_ends_the_workers_and_their_child_processes(
    started, tmp_path: Path
) -> None:
    launcher = started(
        "import subprocess\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "mark(f'pid9{index}', str(child.pid))\n"
        "time.sleep(60)"
    )
    _wait(lambda: len(_pids(tmp_path)) == 4)
    launcher.kill()
    launcher.wait()

    _wait(lambda: not any(map(_is_alive, _pids(tmp_path))), 10)


def test_the_child_processes_of_a_worker_end_with_it(job: Run, tmp_path: Path) -> None:
    script = (
        "import subprocess\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "mark(f'pid9{index}', str(child.pid))"
    )
    assert job(script).returncode == 0
    _wait(lambda: not any(map(_is_alive, _pids(tmp_path))), 5)


def test_a_failed_job_is_restarted_as_often_as_allowed(job: Run) -> None:
    script = (
        "count = int(os.environ['NANO_INIT_RESTARTS'])\n"
        "print('attempt', count, flush=True)\n"
        "if index == 1 and count < 2: sys.exit(3)\n"
        "if count < 2: time.sleep(60)"
    )
    enough, too_few = job(script, "--max-restarts", "2"), job(script, "--max-restarts", "1")

    assert (enough.returncode, too_few.returncode) == (0, 3)
    assert enough.stdout.splitlines() == ["attempt 0", "attempt 1", "attempt 2"]
    assert "restarting the job (1 of 2)" in enough.stderr


def test_a_job_that_the_user_ended_is_not_restarted(started) -> None:
    launcher = started("time.sleep(60)", "--max-restarts", "5")
    launcher.terminate()
    _, errors = launcher.communicate(timeout=30)

    assert launcher.returncode == 143
    assert "restarting" not in errors
