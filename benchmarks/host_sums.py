"""Time all-reduce between workers on several hosts: network namespaces with shaped links.

    sudo benchmarks/host_sums.py [--shapes 2x1 2x2 4x1] [--rates 1 10]
        [--lengths 10000 1000000 10000000] [--rounds N] [--compress] [--json [FILE]]

A host is a namespace whose only device sends no faster than the rate. The limit is the time to
send, at that rate, what each host must send of a sum: 2 (M - 1) / M of its bytes for M hosts
(Patarasu, Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009).
"Plain TCP" sends that many bytes from each host to the next one, and adds nothing up. "One level"
is TensorFlow's collective over all workers. In each round the three follow each other. Prints
medians over the rounds, and the processor time of all workers together, which other programs on
the machine hardly change.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import Column, Table, add_json_option, format_table, write_record

START = "import sys; from nano_init.cli.run import main; sys.exit(main())"
WORKER = """
import contextlib, hashlib, json, os, socket, threading, time
with contextlib.suppress(OSError):  # sched(7): take precedence over other sessions on this machine
    open("/proc/self/autogroup", "w").write("-19")
import numpy as np
import tensorflow as tf
tf.constant(0)
from nano_init.distributed.all_reduce import all_reduce
from nano_init.distributed.job_strategy import job_strategy
plan = json.loads(os.environ["PLAN"])
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
host, local = divmod(index, plan["workers"])
strategy = job_strategy()

@tf.function
def two_levels(x):
    return strategy.run(lambda: all_reduce([x], compress=plan["compress"])[0])

@tf.function
def one_level(x):
    def add_up():
        sent = tf.cast(x, tf.bfloat16) if plan["compress"] else x
        total = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, sent)
        return tf.cast(total, x.dtype)
    return strategy.run(add_up)

def show(name):
    open(name, "w").close()

def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.02)

def connect_ring():
    server = socket.create_server((f"10.78.0.{host + 1}", 5000))
    show(f"listens-{host}")
    after = (host + 1) % plan["hosts"]
    wait_for(f"listens-{after}")
    following = socket.create_connection((f"10.78.0.{after + 1}", 5000))
    return following, server.accept()[0]

def send_around(size, data, space):
    sender = threading.Thread(target=following.sendall, args=(data,))
    sender.start()
    received = 0
    while received < size:
        received += preceding.recv_into(space[received:])
    sender.join()

def timed(act):
    two_levels(tf.constant([1.0])).numpy()  # all begin together
    start, used = time.perf_counter(), time.process_time()
    total = act()
    return time.perf_counter() - start, time.process_time() - used, total

if local == 0:
    following, preceding = connect_ring()
for rate in plan["rates"]:
    show(f"ready-{rate}-{index}")
    wait_for(f"go-{rate}")
    for length in plan["lengths"]:
        x = tf.constant(np.random.default_rng(index).standard_normal(length), tf.float32)
        size = plan["sent"] * length // plan["hosts"]
        data, space = (memoryview(np.zeros(size + 1, "u1"))[:size] for _ in range(2))
        space[:] = data  # the pages of both exist
        found = {"plain": [], "one": [], "two": []}
        for _ in range(plan["rounds"] + 2):
            found["plain"].append(timed(lambda: local or send_around(size, data, space))[:2])
            found["one"].append(timed(lambda: one_level(x).numpy())[:2])
            *figures, total = timed(lambda: two_levels(x).numpy())
            found["two"].append(figures)
        found = {way: figures[2:] for way, figures in found.items()}
        found["digest"] = hashlib.sha256(total.tobytes()).hexdigest()
        with open(f"times-{rate}-{length}-{index}", "w") as file:
            json.dump(found, file)
"""
COLUMNS = (
    Column("hosts x workers"),
    Column("Gbit/s"),
    Column("float32 numbers"),
    Column("the link's limit, ms", 2),
    Column("plain TCP, ms", 1),
    Column("one level, ms", 1),
    Column("two levels, ms", 1),
    Column("one level / two levels", 2),
    Column("one level, processor ms", 1),
    Column("two levels, processor ms", 1),
)
NOTE = (
    "All hosts are namespaces of one machine and share its cores: where the processor is the "
    "bound, as at 10 Gbit/s, the figures say little of hosts of their own. Plain TCP sends as many "
    "bytes and sums nothing."
)


def run(*words: str) -> None:
    """Run a command, which must not fail."""
    subprocess.run(words, check=True)


@contextlib.contextmanager
def made_hosts(count: int):
    """Create namespaces, connected by a bridge in another one."""
    names = [f"sum{os.getpid()}h{n}" for n in range(count)]
    switch = f"sum{os.getpid()}s"
    try:
        run("ip", "netns", "add", switch)
        run("ip", "-n", switch, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", switch, "link", "set", "br0", "up")
        for number, name in enumerate(names):
            run("ip", "netns", "add", name)
            port = f"p{number}"
            run(*f"ip -n {name} link add eth9 type veth peer name {port} netns {switch}".split())
            run(*f"ip -n {switch} link set {port} master br0 up".split())
            run(*f"ip -n {name} address add 10.78.0.{number + 1}/24 dev eth9".split())
            for device in ("lo", "eth9"):
                run(*f"ip -n {name} link set {device} up".split())
        yield names
    finally:
        for name in (*names, switch):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def shape_links(names: list[str], rate: float) -> None:
    """Limit each host's send rate, in Gbit/s."""
    for name in names:
        run(
            *f"ip netns exec {name} tc qdisc replace dev eth9 root tbf".split(),
            *f"rate {rate * 1000:.0f}mbit burst {max(128, rate * 256):.0f}k latency 100ms".split(),
        )


def wait_for(paths: list[Path], processes: list[subprocess.Popen[bytes]]) -> None:
    """Wait for files that the workers write."""
    while not all(path.exists() for path in paths):
        if any(process.poll() not in (None, 0) for process in processes):
            sys.exit("a launcher has failed")
        time.sleep(0.05)


def measure(options: argparse.Namespace, shape: str) -> list[tuple]:
    """Run a job, and return a row for each rate and length."""
    hosts, workers = map(int, shape.split("x"))
    plan = {
        "rates": options.rates, "lengths": options.lengths, "rounds": options.rounds,
        "compress": options.compress, "hosts": hosts, "workers": workers,
        "sent": 2 * (hosts - 1) * (2 if options.compress else 4),
    }  # fmt: skip
    environ = {
        **os.environ, "PLAN": json.dumps(plan), "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, made_hosts(hosts) as names:
        root = Path(folder)
        (root / "sums.py").write_text(WORKER)
        processes = [
            subprocess.Popen(
                ["ip", "netns", "exec", name, sys.executable, "-c", START, "-q", "--oversubscribe",
                 "--nnodes", str(hosts), "--node-rank", str(rank), "--master-addr", "10.78.0.1",
                 "--nproc-per-node", str(workers), "--precision", "float32", "sums.py"],
                cwd=root, env=environ,
            )
            for rank, name in enumerate(names)
        ]  # fmt: skip
        for rate in options.rates:
            ready = [root / f"ready-{rate}-{index}" for index in range(hosts * workers)]
            wait_for(ready, processes)
            shape_links(names, rate)
            (root / f"go-{rate}").touch()
        for process in processes:
            process.wait()
        return [
            read_row(root, plan, shape, rate, length)
            for rate in options.rates
            for length in options.lengths
        ]


def read_row(root: Path, plan: dict, shape: str, rate: float, length: int) -> tuple:
    """Return the figures of one rate and length, as in `COLUMNS`."""
    found = [
        json.loads((root / f"times-{rate}-{length}-{index}").read_text())
        for index in range(plan["hosts"] * plan["workers"])
    ]
    if len({each["digest"] for each in found}) > 1:
        sys.exit(f"the workers of {shape} have different bits")
    clock, used = {}, {}
    for way in ("plain", "one", "two"):
        rounds = list(zip(*(each[way] for each in found), strict=True))
        clock[way] = 1000 * statistics.median(max(time for time, _ in each) for each in rounds)
        used[way] = 1000 * statistics.median(sum(cpu for _, cpu in each) for each in rounds)
    limit = 1000 * plan["sent"] * length / plan["hosts"] / (rate * 1e9 / 8)
    ratio = clock["one"] / clock["two"]
    times = (clock["plain"], clock["one"], clock["two"], ratio, used["one"], used["two"])
    return (shape, rate, length, *(round(figure, 2) for figure in (limit, *times)))


def main() -> None:
    """Time the sums and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--shapes", nargs="+", default=["2x1", "2x2", "4x1"], help="hosts x workers"
    )
    parser.add_argument("--rates", type=float, nargs="+", default=[1.0, 10.0], help="Gbit/s")
    parser.add_argument("--lengths", type=int, nargs="+", default=[10**4, 10**6, 10**7])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--compress", action="store_true", help="send bfloat16 between hosts")
    add_json_option(parser, "host-sums")
    options = parser.parse_args()
    rows = [row for shape in options.shapes for row in measure(options, shape)]
    table = Table("sums", "A sum over the workers of several hosts", COLUMNS, tuple(rows))
    print(format_table(table))
    if options.json:
        write_record(options.json, "host_sums", [table], note=NOTE)


if __name__ == "__main__":
    main()
