"""Jobs described by options or by TF_CONFIG: what is rejected, joined and shown."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
START = "import sys; from nano_init.cli.run import main; sys.exit(main())"

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="workers are bound and watched over on Linux"
)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--nproc-per-node", "0"), "--nproc-per-node is '0'"),
        (("--nproc-per-node", "100000"), "--nproc-per-node is '100000'"),
        (("--nproc-per-node", "4000"), "more than the"),
        (("--nnodes", "2"), "--nnodes 2 needs --node-rank"),
        (("--nnodes", "2", "--node-rank", "1"), "needs --master-addr"),
        (("--nnodes", "2", "--node-rank", "2"), "--node-rank 2 is not below --nnodes 2"),
        (("--nnodes", "two"), "--nnodes is 'two'"),
        (("--nproc-per-node", "2", "--max-restarts", "-1"), "--max-restarts is '-1'"),
        (("--nproc-per-node", "2", "--sysroot", "x"), "--sysroot needs --dry-run"),
    ],
)
def test_an_invalid_option_is_reported_in_one_sentence_and_nothing_runs(
    nano_run: Run, tmp_path: Path, options: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / "s.py").write_text("open('ran', 'w')")
    result = nano_run("-q", *options, "s.py")

    assert result.returncode == 2
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("spelling", ["--nproc_per_node", "NANO_RUN_NPROC_PER_NODE"])
def test_an_option_may_have_underscores_or_come_from_the_environment(
    nano_run: Run, tmp_path: Path, spelling: str
) -> None:
    (tmp_path / "s.py").write_text(
        "import json, os\n"
        "index = json.loads(os.environ['TF_CONFIG'])['task']['index']\n"
        "with open(f'seen{index}', 'w') as file:\n"
        "    file.write(str(os.environ.get('NANO_RUN_NPROC_PER_NODE')))"
    )
    flags, env = ([spelling, "2"], {}) if spelling[0] == "-" else ([], {spelling: "2"})
    result = nano_run("-q", "--oversubscribe", *flags, "s.py", env=env)

    assert result.returncode == 0, result.stderr
    assert (tmp_path / "seen1").read_text() == "None"


READY = {"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}, "task": {"type": "worker"}}


@pytest.mark.parametrize("index", [0, 1])
def test_a_cluster_in_tf_config_is_joined_without_a_new_process(
    nano_run: Run, tmp_path: Path, index: int
) -> None:
    """The Kubernetes training operator starts the pods and sets TF_CONFIG."""
    READY["task"]["index"] = index
    (tmp_path / "s.py").write_text(
        "import os, random\n"
        "from nano_init.distributed.worker_startup import current_membership\n"
        "print(os.getppid(), current_membership().index, current_membership().workers)\n"
        "open(f'drawn{current_membership().index}', 'w').write(str(random.random()))"
    )
    result = nano_run("-q", "s.py", env={"TF_CONFIG": json.dumps(READY)})

    assert result.stdout == f"{os.getpid()} {index} 2\n"


@pytest.mark.parametrize("is_ready", [False, True])
def test_a_nano_run_started_by_a_worker_is_not_a_worker(
    nano_run: Run, tmp_path: Path, is_ready: bool
) -> None:
    (tmp_path / "inner.py").write_text(
        "from nano_init.distributed.worker_startup import current_membership\n"
        "print(current_membership())"
    )
    (tmp_path / "s.py").write_text(
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', {START!r}, '-q', 'inner.py'], check=True)"
    )
    flags = () if is_ready else ("--oversubscribe", "--nproc-per-node", "2")
    ready = {**READY, "task": {"type": "worker", "index": 0}}
    result = nano_run(
        "-q", *flags, "s.py", env={"TF_CONFIG": json.dumps(ready)} if is_ready else {}
    )

    assert result.stdout == "None\n", result.stderr


def test_auto_reports_in_one_line_why_it_starts_one_worker(nano_run: Run, tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("print('ran')")
    flags = ("--nproc-per-node", "auto", "--threads", "1", "s.py")
    result = nano_run(*flags)

    assert result.stdout == "ran\n"
    lines = [line for line in result.stderr.splitlines() if "worker" in line]
    assert [line.startswith("nano-run: 1 worker: ") for line in lines] == [True]
    assert "worker" not in nano_run("-q", *flags).stderr


def test_log_and_restart_options_are_rejected_with_tf_config(nano_run: Run, tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("open('ran', 'w')")
    ready = {**READY, "task": {"type": "worker", "index": 0}}
    result = nano_run("-q", "--tee", "s.py", env={"TF_CONFIG": json.dumps(ready)})

    assert result.returncode == 2
    assert "--log-dir, --tee and --max-restarts do not apply with TF_CONFIG" in result.stderr
    assert not (tmp_path / "ran").exists()


def test_an_invalid_tf_config_is_reported_before_anything_runs(
    nano_run: Run, tmp_path: Path
) -> None:
    (tmp_path / "s.py").write_text("open('ran', 'w')")
    result = nano_run("-q", "s.py", env={"TF_CONFIG": "{"})

    assert result.returncode == 2
    assert result.stderr.startswith("nano-run: TF_CONFIG cannot be read")
    assert not (tmp_path / "ran").exists()


def test_a_dry_run_prints_each_workers_placement_and_environment_and_runs_nothing(
    nano_run: Run, tmp_path: Path
) -> None:
    (tmp_path / "s.py").write_text("open('ran', 'w')")
    result = nano_run("--dry-run", "--oversubscribe", "--nproc-per-node", "3", "s.py")

    assert result.returncode == 0
    assert [n for n in range(3) if f"\n# worker {n}\n" in result.stdout] == [0, 1, 2]
    assert result.stdout.count("export TF_CONFIG=") == 3
    assert "# worker  cpus" in result.stdout
    assert not (tmp_path / "ran").exists()


def test_a_dry_run_on_one_of_several_hosts_uses_the_jobs_worker_numbers(
    nano_run: Run, tmp_path: Path
) -> None:
    """It assumes the same number of workers on each host; unknown addresses get placeholders."""
    (tmp_path / "s.py").write_text("open('ran', 'w')")
    hosts = ("--nnodes", "3", "--node-rank", "1", "--master-addr", "h0")
    flags = ("--dry-run", "--oversubscribe", "--nproc-per-node", "2")
    result = nano_run(*flags, *hosts, "s.py")

    assert result.returncode == 0, result.stderr
    head, *workers = result.stdout.split("\n# worker ")[1:]
    assert head.startswith(" cpus")
    assert [line[:3] for line in head.splitlines()[1:3]] == ["# 2", "# 3"]
    addresses = [f"{host}:PORT" for host in ("h0", "HOST1", "HOST2") for _ in range(2)]
    for index, text in zip((2, 3), workers, strict=True):
        exports = _read_exports(text)
        assert text.startswith(f"{index}\n")
        assert json.loads(exports["TF_CONFIG"]) == {
            "cluster": {"worker": addresses},
            "task": {"type": "worker", "index": index},
        }
        assert f'"index": {index}' in exports["NANO_INIT_WORKER"]
        assert exports["PYTHONHASHSEED"] == "0"


def test_a_dry_run_with_one_worker_per_host_prints_the_full_environment(
    nano_run: Run, tmp_path: Path
) -> None:
    (tmp_path / "s.py").write_text("")
    hosts = ("--nnodes", "2", "--node-rank", "1", "--master-addr", "h0")
    result = nano_run("--dry-run", "--nproc-per-node", "1", *hosts, "s.py")

    exports = _read_exports(result.stdout.partition("\n# worker 1\n")[2])
    assert json.loads(exports["TF_CONFIG"])["cluster"]["worker"] == ["h0:PORT", "HOST1:PORT"]
    assert {"NANO_INIT_WORKER", "PYTHONHASHSEED"} <= exports.keys()


def _read_exports(text: str) -> dict[str, str]:
    lines = [shlex.split(line) for line in text.splitlines() if line.startswith("export ")]
    return dict(line[1].split("=", 1) for line in lines)
