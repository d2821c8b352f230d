"""Time all-reduce between workers on several hosts: network namespaces with shaped links.

    sudo benchmarks/host_sums.py --shape 2x2 --rates 1 10 --lengths 10000 1000000 10000000
    sudo benchmarks/host_sums.py --shape 2x2 --one-level      # as TensorFlow alone would

A host is a namespace whose only device sends no faster than the rate. The limit is the time to
send, at that rate, what each host must send of a sum: 2 (M - 1) / M of its bytes for M hosts
(Patarasu, Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009).
Prints the median of several sums, and the processor time of all workers together, which other
programs on the machine hardly change.
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

START = "import sys; from nano_init.cli.run import main; sys.exit(main())"
WORKER = """
import contextlib, hashlib, json, os, time
with contextlib.suppress(OSError):  # sched(7): take precedence over other sessions on this machine
    open("/proc/self/autogroup", "w").write("-19")
import numpy as np
import tensorflow as tf
tf.constant(0)
from nano_init.distributed.all_reduce import all_reduce
from nano_init.distributed.job_strategy import job_strategy
plan = json.loads(os.environ["PLAN"])
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
strategy = job_strategy()

@tf.function
def add_up(x):
    return strategy.run(lambda: all_reduce([x], compress=plan["compress"])[0])

def show(name):
    open(name, "w").close()

for rate in plan["rates"]:
    show(f"ready-{rate}-{index}")
    while not os.path.exists(f"go-{rate}"):
        time.sleep(0.05)
    for length in plan["lengths"]:
        x = tf.constant(np.random.default_rng(index).standard_normal(length), tf.float32)
        times, cpu = [], []
        for _ in range(plan["rounds"] + 2):
            start, used = time.perf_counter(), time.process_time()
            total = add_up(x).numpy()
            times.append(time.perf_counter() - start)
            cpu.append(time.process_time() - used)
        with open(f"times-{rate}-{length}-{index}", "w") as file:
            json.dump([times[2:], cpu[2:], hashlib.sha256(total.tobytes()).hexdigest()], file)
"""


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


def measure(options: argparse.Namespace) -> None:
    """Run a job, and print the time of its sums."""
    hosts, workers = map(int, options.shape.split("x"))
    plan = {
        "rates": options.rates, "lengths": options.lengths, "rounds": options.rounds,
        "compress": options.compress,
    }  # fmt: skip
    environ = {
        **os.environ, "PLAN": json.dumps(plan), "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        "NANO_INIT_SHARED_MEMORY": "0" if options.one_level else "1",
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
        report(options, root, hosts, workers)


def report(options: argparse.Namespace, root: Path, hosts: int, workers: int) -> None:
    """Print a line for each rate and length."""
    way = "one level" if options.one_level else "two levels"
    for rate in options.rates:
        for length in options.lengths:
            found = [
                json.loads((root / f"times-{rate}-{length}-{index}").read_text())
                for index in range(hosts * workers)
            ]
            median = statistics.median(
                max(each) for each in zip(*(f[0] for f in found), strict=True)
            )
            width = 2 if options.compress else 4
            limit = 2 * (hosts - 1) / hosts * length * width / (rate * 1e9 / 8)
            used = statistics.median(map(sum, zip(*(f[1] for f in found), strict=True)))
            same = "same bits" if len({f[2] for f in found}) == 1 else "DIFFERENT BITS"
            narrow = ", compressed" if options.compress else ""
            print(
                f"{options.shape} {way}{narrow}, {rate:g} Gbit/s,"
                f" {length:>8} numbers: {1000 * median:8.2f} ms, limit {1000 * limit:8.2f} ms,"
                f" {median / limit:5.2f} times; processor {1000 * used:7.1f} ms in all; {same}",
                flush=True,
            )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", default="2x2", help="hosts x workers on each")
    parser.add_argument("--rates", type=float, nargs="+", default=[1.0, 10.0], help="Gbit/s")
    parser.add_argument("--lengths", type=int, nargs="+", default=[10**4, 10**6, 10**7])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--one-level", action="store_true", help="no memory is shared")
    parser.add_argument("--compress", action="store_true")
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
