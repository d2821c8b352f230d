"""Jobs on several hosts, each simulated by a launcher on this machine.

Only the tests in two network namespaces need TensorFlow.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

START = "import sys; from nano_init.cli.run import main; sys.exit(main())"
SCRIPT = """
import json, os, sys, time
config = json.loads(os.environ["TF_CONFIG"])
index = config["task"]["index"]
with open(f"config{index}.new", "w") as file:
    json.dump(config, file)
os.replace(f"config{index}.new", f"config{index}")
def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.02)
"""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers need Linux")


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Hosts:
    """Launchers that simulate hosts."""

    def __init__(self, environ, folder):
        self.environ, self.folder, self.launchers = environ, folder, []

    def start(self, *arguments, script=SCRIPT, name="s.py", env=None, prefix=(), after=(),
              command=START):  # fmt: skip
        (self.folder / name).parent.mkdir(exist_ok=True)
        (self.folder / name).write_text(script)
        launcher = subprocess.Popen(
            [*prefix, sys.executable, "-c", command, "-q", "--oversubscribe", *arguments, name,
             *after],
            env={**self.environ, **(env or {})}, cwd=self.folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.launchers.append(launcher)
        return launcher

    def pair(self, port, *arguments, script=SCRIPT):
        flags = ("--nnodes", "2", "--master-addr", "127.0.0.1", "--master-port", str(port))
        return [
            self.start(*flags, "--node-rank", str(rank), *arguments, script=SCRIPT + script)
            for rank in range(2)
        ]

    def end(self, seconds=40):
        """Return each launcher's status, output and errors."""
        ends = [launcher.communicate(timeout=seconds) for launcher in self.launchers]
        return [(p.returncode, *e) for p, e in zip(self.launchers, ends, strict=True)]


@pytest.fixture
def hosts(environ, tmp_path):
    hosts = Hosts(environ, tmp_path)
    yield hosts
    for launcher in hosts.launchers:
        launcher.kill()
        launcher.communicate()


def test_hosts_get_the_addresses_of_all_workers(hosts, port, tmp_path):
    hosts.pair(port, "--nproc-per-node", "2", script="print('chief' if index == 0 else 'no')")

    assert [end[:2] for end in hosts.end()] == [(0, "chief\n"), (0, "")]
    configs = [json.loads((tmp_path / f"config{i}").read_text()) for i in range(4)]
    workers = configs[0]["cluster"]["worker"]
    assert len(set(workers)) == 4
    assert all(config["cluster"]["worker"] == workers for config in configs)


def test_a_failure_on_one_host_ends_the_job_on_all_with_its_status_and_traceback(hosts, port):
    hosts.pair(
        port,
        script="if index == 1:\n    wait_for('config0')\n    raise KeyError('there')\n"
        "time.sleep(60)",
    )
    start = time.monotonic()

    for status, _, errors in hosts.end():
        assert status == 1
        assert errors.splitlines()[-1] == "KeyError: 'there'"
    assert time.monotonic() - start < 30


def test_a_signal_on_one_host_ends_the_job_on_all(hosts, port, tmp_path):
    launchers = hosts.pair(port, script="time.sleep(60)")
    _wait_for(tmp_path / "config0", tmp_path / "config1")
    launchers[1].send_signal(signal.SIGINT)

    assert [end[0] for end in hosts.end()] == [130, 130]


def test_a_lost_host_ends_the_job_and_is_reported(hosts, port, tmp_path):
    launchers = hosts.pair(port, script="time.sleep(60)")
    _wait_for(tmp_path / "config0", tmp_path / "config1")
    launchers[1].kill()

    status, _, errors = hosts.end()[0]
    assert status == 1
    assert "host 1 (127.0.0.1) disconnected" in errors


def test_all_hosts_restart_together(hosts, port):
    hosts.pair(
        port,
        "--max-restarts",
        "1",
        script="first = os.environ['NANO_INIT_RESTARTS'] == '0'\n"
        "if first and index == 1: sys.exit(3)\n"
        "if first: time.sleep(60)\n"
        "print('again')",
    )

    assert [end[:2] for end in hosts.end()] == [(0, "again\n"), (0, "")]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_host_may_be_started_again_and_the_job_restarts(hosts, port, tmp_path, lost):
    """The host that is started again gets the job's restart count."""
    script = (
        "with open(f'restarts{index}', 'w') as file:\n"
        "    file.write(os.environ['NANO_INIT_RESTARTS'])\n"
        "if os.environ['NANO_INIT_RESTARTS'] == '0': time.sleep(60)"
    )
    launchers = hosts.pair(port, "--max-restarts", "2", script=script)
    _wait_for(tmp_path / "restarts0", tmp_path / "restarts1")
    launchers[lost].kill()
    hosts.start(
        "--nnodes", "2", "--master-addr", "127.0.0.1", "--master-port", str(port),
        "--node-rank", str(lost), "--max-restarts", "2", script=SCRIPT + script,
    )  # fmt: skip

    ends = hosts.end()
    assert [ends[1 - lost][0], ends[2][0]] == [0, 0]
    assert f"host {lost}" in ends[1 - lost][2].splitlines()[0]
    assert "restarting the job (1 of 2) once all hosts are there" in ends[1 - lost][2]
    assert [(tmp_path / f"restarts{i}").read_text() for i in range(2)] == ["1", "1"]


@pytest.mark.parametrize("late", [0, 1])
def test_a_worker_that_never_starts_tensorflow_is_reported_with_its_host(hosts, port, late):
    hosts.pair(
        port,
        "--start-timeout",
        "2",
        script="from nano_init.distributed.worker_startup import report_status\n"
        f"if index != {late}: report_status('joined')\n"
        "time.sleep(60)",
    )
    start = time.monotonic()

    for status, _, errors in hosts.end():
        assert status == 1
        assert errors.startswith(f"nano-run: worker {late} (process ")
        assert f") on host {late} " in errors
        assert f"has not started TensorFlow 2 s after worker {1 - late} did" in errors
    assert time.monotonic() - start < 30


def test_several_workers_that_never_start_tensorflow_are_reported_together(hosts, port):
    hosts.pair(
        port, "--start-timeout", "2", "--nproc-per-node", "2",
        script="from nano_init.distributed.worker_startup import report_status\n"
        "if index == 2: report_status('joined')\n"
        "time.sleep(60)",
    )  # fmt: skip

    for status, _, errors in hosts.end():
        assert status == 1
        assert errors.count(" on host 0") == 2
        assert errors.count(" on host 1 (127.0.0.1)") == 1
        assert "have not started TensorFlow 2 s after worker 2 did" in errors


def test_different_versions_of_a_script_are_reported_before_they_run(hosts, port, tmp_path):
    flags = ("--nnodes", "2", "--master-addr", "127.0.0.1", "--master-port", str(port))
    hosts.start(*flags, "--node-rank", "0")
    hosts.start(*flags, "--node-rank", "1", script=SCRIPT + "# other", name="a/s.py")

    for status, _, errors in hosts.end():
        assert status == 2
        assert errors.startswith("nano-run: the script differs: s.py (")
        assert errors.count("\n") == 1
    assert not (tmp_path / "config0").exists()


def test_a_program_from_stdin_is_compared_by_its_content_and_runs_on_all_hosts(
    environ, port, tmp_path
):
    def run(*programs):
        launchers = []
        for rank, program in enumerate(programs):
            with (tmp_path / f"program{rank}").open("w+") as file:
                file.write(program)
                file.seek(0)
                launchers.append(subprocess.Popen(
                    [sys.executable, "-c", START, "-q", "--nnodes", "2", "--master-addr",
                     "127.0.0.1", "--master-port", str(port), "--node-rank", str(rank), "-"],
                    env=environ, cwd=tmp_path, text=True, stdin=file, stderr=subprocess.PIPE,
                ))  # fmt: skip
        errors = [launcher.communicate(timeout=40)[1] for launcher in launchers]
        return [launcher.returncode for launcher in launchers], errors

    other, errors = run(SCRIPT, SCRIPT + "# other")
    assert other == [2, 2]
    assert all("the script differs: stdin (" in text for text in errors)
    assert not (tmp_path / "config0").exists()
    assert run(SCRIPT, SCRIPT) == ([0, 0], ["", ""])
    assert (tmp_path / "config0").exists()
    assert (tmp_path / "config1").exists()


@pytest.mark.parametrize(
    ("options", "arguments", "env", "sentence"),
    [
        ((), ("--epochs", "3"), {}, "the script's list of arguments differs: none on"),
        (("--lazy-adam",), (), {}, "--lazy-adam differs: not given on"),
        (("--steps-per-execution", "4"), (), {}, "--steps-per-execution differs: auto on"),
        (("--keep-float32", "out*"), (), {}, "--keep-float32 differs: none on"),
        (("--disable", "lstm"), (), {}, "NANO_INIT_DISABLE) differs: none on"),
        ((), (), {"NANO_INIT_DISABLE": "lstm"}, "NANO_INIT_DISABLE) differs: none on"),
        ((), (), {"TF_USE_LEGACY_KERAS": "1"}, "(TF_USE_LEGACY_KERAS) differs: Keras 3 on"),
        (("--compress-gradients",), (), {}, "--compress-gradients differs: not given on"),
        (("--max-restarts", "2"), (), {}, "--max-restarts differs: 0 on"),
    ],
)
def test_hosts_with_different_settings_are_reported_before_the_script_runs(
    hosts, port, tmp_path, options, arguments, env, sentence
):
    flags = ("--nnodes", "2", "--master-addr", "127.0.0.1", "--master-port", str(port))
    hosts.start(*flags, "--node-rank", "0")
    hosts.start(*flags, "--node-rank", "1", *options, after=arguments, env=env)

    for status, _, errors in hosts.end():
        assert status == 2
        assert f"{sentence} host 0, " in errors
        assert " on host 1 (127.0.0.1)" in errors
        assert errors.count("\n") == 1
    assert not (tmp_path / "config0").exists()


def test_hosts_that_never_connect_are_reported(hosts, port):
    hosts.start(
        "--nnodes", "3", "--master-addr", "127.0.0.1", "--master-port", str(port),
        "--node-rank", "0", "--start-timeout", "2",
    )  # fmt: skip

    status, _, errors = hosts.end()[0]
    assert status == 2
    assert "hosts 1, 2 of 3 have not connected within 2 s" in errors


def test_an_unreachable_master_is_reported(hosts, port):
    hosts.start(
        "--nnodes", "2", "--master-addr", "127.0.0.1", "--master-port", str(port),
        "--node-rank", "1", "--start-timeout", "1",
    )  # fmt: skip

    status, _, errors = hosts.end()[0]
    assert status == 2
    assert f"host 0 at 127.0.0.1:{port} cannot be reached within 1 s" in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("answer", [b"HTTP/1.0 400 Bad Request\r\n\r\n", b'{"a": 1}\n', b""])
def test_a_master_that_is_not_nano_run_is_reported(hosts, answer):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            connection.recv(1000)
            connection.sendall(answer)
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        port = str(server.getsockname()[1])
        hosts.start(
            "--nnodes", "2", "--master-addr", "127.0.0.1", "--master-port", port,
            "--node-rank", "1", "--start-timeout", "5",
        )  # fmt: skip
        status, _, errors = hosts.end()[0]
        thread.join()

    assert status == 2
    assert "nano-run" in errors.partition(": ")[2]
    assert errors.count("\n") == 1


def test_a_port_in_use_is_reported(hosts):
    with socket.create_server(("", 0)) as server:
        port = str(server.getsockname()[1])
        hosts.start(
            "--nnodes", "2", "--master-addr", "127.0.0.1", "--master-port", port,
            "--node-rank", "0",
        )  # fmt: skip
        status, _, errors = hosts.end()[0]

    assert status == 2
    assert (
        f"host 0 cannot listen on 127.0.0.1:{port}: Address already in use; give all hosts"
        in errors
    )


def test_a_stranger_on_the_master_port_does_not_stop_the_job(hosts, port, tmp_path):
    flags = ("--nnodes", "2", "--master-addr", "127.0.0.1", "--master-port", str(port))
    hosts.start(*flags, "--node-rank", "0")
    stranger = _connect(port)
    stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")
    hosts.start(*flags, "--node-rank", "1")

    assert [end[0] for end in hosts.end()] == [0, 0]
    stranger.close()


def test_ipv6_only_hosts_meet_and_write_their_addresses_in_brackets(hosts, tmp_path):
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
            port = server.getsockname()[1]
    except OSError:
        pytest.skip("this machine has no IPv6")
    flags = ("--nnodes", "2", "--master-addr", "[::1]", "--master-port", str(port))
    for rank in range(2):
        hosts.start(*flags, "--node-rank", str(rank))

    assert [end[0] for end in hosts.end()] == [0, 0]
    workers = json.loads((tmp_path / "config1").read_text())["cluster"]["worker"]
    assert [address.rpartition(":")[0] for address in workers] == ["[::1]", "[::1]"]


SHIFTED = "import time; now = time.time; time.time = lambda: now() + 18000; "


def test_workers_do_not_get_the_job_secret_and_clocks_may_differ(hosts, port, tmp_path):
    """Host 1's clock is five hours ahead."""
    flags = ("--nnodes", "2", "--master-addr", "127.0.0.1", "--master-port", str(port))
    secret = {"NANO_RUN_JOB_SECRET": "0123456789abcdef"}
    script = SCRIPT + "print([name for name in os.environ if 'SECRET' in name])"
    for rank in range(2):
        start = SHIFTED * rank + START
        hosts.start(*flags, "--node-rank", str(rank), script=script, env=secret, command=start)

    assert hosts.end() == [(0, "[]\n", ""), (0, "", "")]


def test_different_job_secrets_are_reported_on_both_hosts(hosts, port, tmp_path):
    flags = ("--nnodes", "2", "--master-addr", "127.0.0.1", "--master-port", str(port))
    (tmp_path / "key").write_text("another secret of its own")
    hosts.start(
        *flags, "--node-rank", "0", "--start-timeout", "4",
        env={"NANO_RUN_JOB_SECRET": "0123456789abcdef"},
    )  # fmt: skip
    hosts.start(*flags, "--node-rank", "1", "--job-secret-file", "key")

    ends = hosts.end()
    assert [end[0] for end in ends] == [2, 2]
    place = f"host 0 at 127.0.0.1:{port}"
    assert ends[1][2].startswith(f"nano-run: {place} has another job secret than this host: give")
    first, second = ends[0][2].splitlines()
    assert first.startswith("nano-run: a host at 127.0.0.1 does not know the job's secret")
    assert second.startswith("nano-run: host 1 of 2 has not connected within 4 s")
    assert not (tmp_path / "config0").exists()


def test_slurm_tasks_find_their_place_without_options(hosts, tmp_path, port):
    for rank in range(2):
        slurm = {
            "SLURM_JOB_ID": str(port), "SLURM_STEP_ID": "0", "SLURM_PROCID": str(rank),
            "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": str(rank), "SLURM_NODEID": "0",
            "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_STEP_NODELIST": "localhost",
        }  # fmt: skip
        hosts.start("--nproc-per-node", "auto", env=slurm)

    assert [end[0] for end in hosts.end()] == [0, 0]
    assert (tmp_path / "config1").exists()


def _connect(port):
    for _ in range(200):
        try:
            return socket.create_connection(("127.0.0.1", port))
        except OSError:  # noqa: PERF203 - host 0 does not listen yet
            time.sleep(0.05)
    raise AssertionError("nothing listens on the port")


def _wait_for(*paths: Path, seconds: float = 20):
    deadline = time.monotonic() + seconds
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline
        time.sleep(0.02)


TRAINING = """
import hashlib, json, os
import keras, numpy as np
import tensorflow as tf
keras.utils.set_random_seed(1)
x = np.random.rand(40, 3).astype("float32")
model = keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(1)])
model.compile(keras.optimizers.SGD(0.1), "mse")
model.fit(x, x.sum(1, keepdims=True), batch_size=8, verbose=0)
found = [w.tolist() for w in model.get_weights()]
if "TF_CONFIG" in os.environ:
    from nano_init.distributed.all_reduce import all_reduce
    from nano_init.distributed.job_strategy import job_strategy
    index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    values = np.random.default_rng(index).standard_normal(2_500_000).astype("float32")
    ids = tf.IndexedSlices(tf.constant([[1.0]]), tf.constant([index]), tf.constant([4, 1]))

    def add_up():
        return all_reduce([tf.constant(values), tf.constant([index]), ids], tf.constant(2.0))

    graph, count, rows = job_strategy().run(tf.function(add_up))
    eager, _, _ = job_strategy().run(add_up)
    assert count.numpy() == [12], count
    assert sorted(rows.indices.numpy()) == [0, 1, 2, 3], rows
    assert (graph.numpy() == eager.numpy()).all()
    expected = sum(2.0 * np.random.default_rng(i).standard_normal(2_500_000) for i in range(4))
    np.testing.assert_allclose(graph, expected, atol=1e-4)
    found.append(hashlib.sha256(graph.numpy().tobytes()).hexdigest())
    with open(f"weights{index}", "w") as file:
        json.dump(found, file)
else:
    with open("weights", "w") as file:
        json.dump(found, file)
"""


@pytest.fixture
def namespaces():
    """Two network namespaces with one address each, connected by a veth pair."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("making network namespaces takes root and iproute2")
    names = [f"nano{os.getpid()}{side}" for side in "ab"]
    made = subprocess.run(
        ["ip", "netns", "add", names[0]], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"network namespaces cannot be made here: {made.stderr.strip()}")
    try:
        for command in (
            f"ip netns add {names[1]}",
            f"ip -n {names[0]} link add eth9 type veth peer name eth9 netns {names[1]}",
            *(f"ip -n {n} address add 10.77.0.{i}/24 dev eth9" for i, n in enumerate(names, 1)),
            *(f"ip -n {n} link set {device} up" for n in names for device in ("lo", "eth9")),
        ):
            subprocess.run(command.split(), check=True)
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


@pytest.mark.parametrize("master", ["fd00:77::1", "[fd00:77::1]", "link-local"])
def test_hosts_with_ipv6_addresses_alone_meet(hosts, namespaces, tmp_path, master):
    """Of a link-local address each host writes its own interface behind the address."""
    for number, name in enumerate(namespaces, 1):
        for command in (
            f"ip -n {name} address flush dev eth9",
            f"ip -n {name} address add fd00:77::{number}/64 dev eth9 nodad",
            f"ip -n {name} address add fe80::{number}/64 dev eth9 nodad",
        ):
            if subprocess.run(command.split(), capture_output=True, check=False).returncode:
                pytest.skip("this machine has no IPv6")
    address = "fe80::1%eth9" if master == "link-local" else master
    for rank, namespace in enumerate(namespaces):
        hosts.start(
            "--nnodes", "2", "--node-rank", str(rank), "--master-addr", address,
            prefix=("ip", "netns", "exec", namespace),
        )  # fmt: skip

    assert [end[0] for end in hosts.end()] == [0, 0]
    configs = [json.loads((tmp_path / f"config{i}").read_text()) for i in range(2)]
    workers = configs[0]["cluster"]["worker"]
    assert configs[1]["cluster"]["worker"] == workers
    expected = (
        ["[fe80::1%eth9]", "[fe80::2%eth9]"]
        if master == "link-local"
        else ["[fd00:77::1]", "[fd00:77::2]"]
    )
    assert [each.rpartition(":")[0] for each in workers] == expected


LONG_TRAINING = """
import json, os, time
import keras, numpy as np
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
folder, restarts = os.environ["FOLDER"], os.environ["NANO_INIT_RESTARTS"]
class Slow(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 2 * int(restarts):
            open(f"{folder}/reached{index}-{restarts}", "w").close()
        time.sleep(float(os.environ["PAUSE"]))
keras.utils.set_random_seed(1)
x = np.random.rand(16, 3).astype("float32")
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1)])
model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
backup = keras.callbacks.BackupAndRestore(f"{folder}/backup{index}")
model.fit(x, x.sum(1, keepdims=True), batch_size=8, epochs=8, shuffle=False, verbose=0,
          callbacks=[backup, Slow()])
with open(f"{folder}/weights{index}", "w") as file:
    json.dump([w.tolist() for w in model.get_weights()], file)
"""


@pytest.mark.slow
@pytest.mark.tensorflow
def test_a_training_resumes_from_its_backup_after_a_killed_host_and_a_cut_link(
    hosts, namespaces, tmp_path
):
    """It ends with the weights of an uninterrupted training."""
    pytest.importorskip("tensorflow")

    def start(rank, folder, pause="1"):
        (tmp_path / folder).mkdir(exist_ok=True)
        return hosts.start(
            "--nnodes", "2", "--node-rank", str(rank), "--master-addr", "10.77.0.1",
            "--precision", "float32", "--max-restarts", "2", "--start-timeout", "60",
            script=LONG_TRAINING, prefix=("ip", "netns", "exec", namespaces[rank]),
            env={"FOLDER": folder, "PAUSE": pause},
        )  # fmt: skip

    for rank in range(2):
        start(rank, "whole", "0")
    assert [end[0] for end in hosts.end(120)] == [0, 0]
    hosts.launchers.clear()

    for rank in range(2):
        start(rank, "broken")
    broken = tmp_path / "broken"
    _wait_for(broken / "reached0-0", broken / "reached1-0", seconds=90)
    pids = subprocess.run(
        ["ip", "netns", "pids", namespaces[1]], check=True, capture_output=True, text=True
    )
    for pid in pids.stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    start(1, "broken")
    _wait_for(broken / "reached0-1", broken / "reached1-1", seconds=90)
    cut = ["ip", "-n", namespaces[1], "link", "set", "eth9"]
    subprocess.run([*cut, "down"], check=True)
    time.sleep(25)
    subprocess.run([*cut, "up"], check=True)

    first, _, second = hosts.end(180)
    assert [first[0], second[0]] == [0, 0], (first, second)
    assert "host 1 (10.77.0.2) disconnected" in first[2]
    assert "host 1 (10.77.0.2) sent nothing for 20 s" in first[2]
    assert "host 0 at 10.77.0.1:29400 sent nothing for 20 s" in second[2]
    for rank in range(2):
        weights = (broken / f"weights{rank}").read_text()
        assert weights == (tmp_path / "whole" / f"weights{rank}").read_text()


@pytest.mark.slow
@pytest.mark.tensorflow
def test_two_hosts_with_two_workers_each_reach_the_weights_of_one_process(
    hosts, namespaces, tmp_path, nano_run
):
    """All workers have bitwise equal weights; sums use shared memory and the network."""
    pytest.importorskip("tensorflow")
    for rank, namespace in enumerate(namespaces):
        hosts.start(
            "--nnodes", "2", "--node-rank", str(rank), "--master-addr", "10.77.0.1",
            "--nproc-per-node", "2", "--precision", "float32", "--tee",
            script=TRAINING, prefix=("ip", "netns", "exec", namespace),
        )  # fmt: skip

    ends = hosts.end(240)
    assert [end[0] for end in ends] == [0, 0], ends
    texts = {(tmp_path / f"weights{index}").read_text() for index in range(4)}
    assert len(texts) == 1
    assert nano_run("-q", "--precision", "float32", "s.py").returncode == 0
    alone = json.loads((tmp_path / "weights").read_text())
    for own, other in zip(json.loads(texts.pop()), alone, strict=False):
        assert flatten(own) == pytest.approx(flatten(other), abs=1e-5)


def flatten(value):
    return (
        [number for part in value for number in flatten(part)]
        if isinstance(value, list)
        else [value]
    )
