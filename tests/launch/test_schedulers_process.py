"""Real schedulers run the recipes of docs/many_hosts.md on simulated hosts of this machine.

The program needs no TensorFlow: it only records its placement.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPES = REPOSITORY / "examples" / "clusters"
NODES = ("127.0.0.1", "127.0.0.2")  # names that need no entry in /etc/hosts
NANO_RUN = "import sys; from nano_init.cli.run import main; sys.exit(main())"
PROGRAM = """
import json, os, sys
config = json.loads(os.environ["TF_CONFIG"])
place = {
    "workers": config["cluster"]["worker"],
    "cpus": sorted(os.sched_getaffinity(0)),
    "arguments": sys.argv[1:],
    "has_secret": any("JOB_SECRET" in name for name in os.environ),
    "job": os.environ.get("SLURM_JOB_ID", ""),
}
name = f"place{config['task']['index']}-{place['job']}"
with open(name, "w") as file:
    json.dump(place, file)
"""

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.cpu_count() == 1, reason="needs Linux and two cores"
)


def make_command(folder: Path, name: str, *words: str) -> None:
    """Write a wrapper that runs a command, followed by the wrapper's own arguments."""
    path = folder / name
    path.write_text(f'#!/bin/sh\nexec {" ".join(words)} "$@"\n')
    path.chmod(0o755)


@pytest.fixture
def commands(tmp_path, environ):
    """A folder with `nano-run`, and an environment that has the folder first in PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "nano_run.py").write_text(NANO_RUN)
    make_command(folder, "nano-run", sys.executable, str(folder / "nano_run.py"))
    (tmp_path / "train.py").write_text(PROGRAM)
    return folder, {**environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def read_places(folder: Path, count: int) -> list[dict]:
    """Return the placements that the workers recorded, the chief's first."""
    paths = sorted(folder.glob("place*"), key=lambda path: path.name.partition("-")[0])
    assert len(paths) == count, list(folder.iterdir())
    places = [json.loads(path.read_text()) for path in paths]
    assert not any(place["has_secret"] for place in places)
    return places


# -- Slurm ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A Slurm cluster of two nodes with its own MUNGE; yields its folder and environment."""
    needed = ("slurmctld", "slurmd", "srun", "sbatch", "munged", "munge", "unmunge")
    missing = [name for name in needed if not shutil.which(name)]
    if missing:
        pytest.skip(f"Debian's slurm-wlm and munge are not installed: no {missing[0]}")
    if os.geteuid() != 0:
        pytest.skip("slurmd starts jobs as root alone")
    folder = tmp_path_factory.mktemp("slurm")
    folder.chmod(0o755)
    daemons = []
    try:
        daemons.append(start_munge(folder))
        (folder / "slurm.conf").write_text(configure_slurm(folder))
        environ = {"SLURM_CONF": str(folder / "slurm.conf")}
        daemons += [
            start_daemon(folder, environ, *command)
            for command in (
                ("slurmctld", "-c"),
                ("slurmd", "-N", NODES[0]),
                ("slurmd", "-N", NODES[1]),
            )
        ]
        await_idle(folder, environ, daemons)
        yield folder, environ
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            daemon.wait(20)


def start_daemon(folder, environ, *command):
    return subprocess.Popen(
        [*command, "-D"], env={**os.environ, **environ}, cwd=folder,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def start_munge(folder):
    key = folder / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    files = [f"--{n}={folder / n}" for n in ("key-file", "pid-file", "log-file", "seed-file")]
    key.rename(folder / "key-file")
    return subprocess.Popen(
        ["munged", "--foreground", "--force", f"--socket={folder / 'socket'}", *files],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def configure_slurm(folder):
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        ports = [server.getsockname()[1] for server in opened]
    cpus = len(os.sched_getaffinity(0))
    node = f"NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN"
    return f"""
ClusterName=test
SlurmctldHost={socket.gethostname()}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/socket
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
ReturnToService=2
SlurmctldPort={ports[2]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdSpoolDir={folder}/spool-%n
StateSaveLocation={folder}
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
SlurmdParameters=config_overrides
NodeName={NODES[0]} NodeHostname=first Port={ports[0]} {node}
NodeName={NODES[1]} NodeHostname=second Port={ports[1]} {node}
PartitionName=main Nodes=ALL Default=YES State=UP
"""


def await_idle(folder, environ, daemons):
    deadline = time.monotonic() + 30
    while True:
        sinfo = subprocess.run(
            ["sinfo", "-h", "-t", "idle", "-o", "%D"], env={**os.environ, **environ}, text=True,
            capture_output=True, check=False,
        )  # fmt: skip
        if sinfo.stdout.strip() == "2":
            return
        if time.monotonic() > deadline or any(daemon.poll() is not None for daemon in daemons):
            logs = "\n".join(path.read_text()[-500:] for path in folder.glob("*.log"))
            pytest.skip(f"Slurm does not start here: {sinfo.stderr} {logs}")
        time.sleep(0.1)


def await_end(environ):
    """Wait for all jobs; `sbatch --wait` polls only every ten seconds."""
    deadline = time.monotonic() + 60
    queue = ["squeue", "-h"]
    while subprocess.run(queue, env=environ, check=True, capture_output=True).stdout.strip():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def slurm_run(slurm, commands, tmp_path):
    """Return a function that runs a Slurm command in an empty folder."""
    folder, variables = slurm
    bin_folder, environ = commands
    for name in ("munge", "unmunge"):
        make_command(bin_folder, name, shutil.which(name), f"--socket={folder / 'socket'}")

    def run(*command, env=None):
        done = subprocess.run(
            command, env={**environ, **variables, **(env or {})}, cwd=tmp_path, text=True,
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        await_end({**environ, **variables})
        outputs = [path.read_text() for path in tmp_path.glob("slurm-*.out")]
        assert done.returncode == 0, (done, outputs)
        return done.stderr + "".join(outputs)

    return run


@pytest.mark.parametrize(
    ("recipe", "workers"), [("slurm_tasks.sh", 4), ("slurm_hosts.sh", 4)]
)  # fmt: skip
def test_a_slurm_batch_script_gets_its_hosts_and_a_secret(slurm_run, tmp_path, recipe, workers):
    errors = slurm_run("sbatch", str(RECIPES / recipe))

    places = read_places(tmp_path, workers)
    assert len({tuple(place["workers"]) for place in places}) == 1
    assert len(set(places[0]["workers"])) == workers
    assert "no job secret" not in errors, "MUNGE provides one"


def test_each_task_of_a_job_array_is_a_separate_job(slurm_run, tmp_path):
    slurm_run("sbatch", str(RECIPES / "slurm_array.sh"))

    places = read_places(tmp_path, 4)
    assert len({place["job"] for place in places}) == 2
    assert len({tuple(place["workers"]) for place in places}) == 2
    assert {tuple(place["arguments"]) for place in places} == {("--seed", "1"), ("--seed", "2")}


@pytest.mark.parametrize(
    "options",
    [
        ("--nodes=1", "--ntasks=2"),
        ("--nodes=1", "--ntasks=2", "--cpu-bind=none"),
        ("--nodes=1", "--ntasks=2", "--cpus-per-task=1", "--cpu-bind=cores"),
    ],
)
def test_two_tasks_on_one_host_share_no_core(slurm_run, tmp_path, options):
    slurm_run("srun", *options, "nano-run", "--nproc-per-node", "1", "train.py")

    first, second = read_places(tmp_path, 2)
    assert first["cpus"]
    assert not set(first["cpus"]) & set(second["cpus"])


def test_a_task_gets_all_of_its_cores(slurm_run, tmp_path):
    options = ("--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=2")
    slurm_run("srun", *options, "nano-run", "--nproc-per-node", "1", "train.py")

    assert [len(place["cpus"]) for place in read_places(tmp_path, 2)] == [2, 2]


# -- MPI ------------------------------------------------------------------------------------------


def run_mpi(commands, folder, launcher, recipe, *options):
    """Run a recipe on two simulated hosts; all processes start on this machine."""
    bin_folder, environ = commands
    path = shutil.which(launcher)
    if path is None:
        pytest.skip(f"Debian's package of {launcher} is not installed")
    make_command(bin_folder, launcher.partition(".")[0], path, *options)
    (bin_folder / "local-ssh").write_text('#!/bin/sh\nshift\nexec sh -c "$*"\n')
    (bin_folder / "local-ssh").chmod(0o755)
    done = subprocess.run(
        ["sh", str(RECIPES / recipe), "localhost:1,made-up:1"], env=environ, cwd=folder, text=True,
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done
    return done.stderr


@pytest.mark.parametrize(
    ("launcher", "recipe", "options"),
    [
        (
            "mpirun.openmpi",
            "openmpi.sh",
            ("--allow-run-as-root", "--oversubscribe", "-mca", "plm_rsh_agent", "local-ssh"),
        ),
        ("mpiexec.mpich", "mpich.sh", ("-launcher", "fork")),
    ],
)
def test_mpi_ranks_meet_and_share_a_secret(commands, tmp_path, launcher, recipe, options):
    errors = run_mpi(commands, tmp_path, launcher, recipe, *options)

    places = read_places(tmp_path, 2)
    assert places[0]["workers"] == places[1]["workers"]
    assert len(set(places[0]["workers"])) == 2
    assert "no job secret" not in errors


def test_the_documentation_shows_the_recipes():
    text = (REPOSITORY / "docs" / "many_hosts.md").read_text()
    for path in RECIPES.glob("*.sh"):
        indented = "".join(f"    {line}\n" for line in path.read_text().splitlines())
        assert indented in text, f"docs/many_hosts.md lacks {path.name}"
