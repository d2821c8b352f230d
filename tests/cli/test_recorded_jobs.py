"""The workers that a recorded machine would get: their number, placement and threads.

Each expected result was derived by hand from the machine's description; `why` says how.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from nano_init.machine.cpulist import format_cpu_list, parse_cpu_list

CPU = "sys/devices/system/cpu"
NODE = "sys/devices/system/node"
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class Server:
    """A machine with identical sockets, NUMA nodes and cores.

    Args:
        sockets: the number of sockets.
        nodes: NUMA nodes per socket.
        cores: cores per node.
        smt: hardware threads per core; second ones are numbered after all first ones.
        interleaved: consecutive processor numbers are on different sockets, as with some
            servers' firmware.
        cache: cores that share a last-level cache; 0 for all of a node.
        bare: nodes without memory.
        quota: the container's CPU quota, in processors; 0 for none.
    """

    sockets: int
    nodes: int
    cores: int
    smt: int = 1
    interleaved: bool = False
    cache: int = 0
    bare: tuple[int, ...] = ()
    quota: int = 0

    def write(self, root: Path) -> None:
        """Write the machine's files under a root."""
        for path, text in self._files().items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(f"{text}\n")

    def _files(self) -> dict[str, str]:
        total_nodes = self.sockets * self.nodes
        every = range(total_nodes * self.cores)
        files = {
            f"{CPU}/online": f"0-{len(every) * self.smt - 1}",
            f"{NODE}/online": f"0-{total_nodes - 1}",
            f"{NODE}/has_memory": format_cpu_list(set(range(total_nodes)) - set(self.bare)),
            "proc/cpuinfo": "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: lm avx avx2",
        }
        for node in range(total_nodes):
            members = [core for core in every if core // self.cores == node]
            files[f"{NODE}/node{node}/cpulist"] = self._list(members)
        for core in every:
            folder = f"{CPU}/cpu{self._first_cpu(core)}"
            size = self.cache or self.cores
            sharers = [other for other in every if other // size == core // size]
            socket = core // (self.cores * self.nodes)
            fellows = [c for c in every if c // (self.cores * self.nodes) == socket]
            files[f"{folder}/topology/core_cpus_list"] = self._list([core])
            files[f"{folder}/topology/physical_package_id"] = str(socket)
            files[f"{folder}/topology/package_cpus_list"] = self._list(fellows)
            files[f"{folder}/cache/index3/level"] = "3"
            files[f"{folder}/cache/index3/shared_cpu_list"] = self._list(sharers)
        if self.quota:
            files["proc/self/cgroup"] = "0::/"
            files["proc/self/mountinfo"] = "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
            files["sys/fs/cgroup/cpu.max"] = f"{self.quota}00000 100000"
        return files

    def _first_cpu(self, core: int) -> int:
        if not self.interleaved:
            return core
        place, socket = core % (self.cores * self.nodes), core // (self.cores * self.nodes)
        return place * self.sockets + socket

    def _list(self, cores: list[int]) -> str:
        count = self.sockets * self.nodes * self.cores
        firsts = [self._first_cpu(core) for core in cores]
        return format_cpu_list(first + n * count for first in firsts for n in range(self.smt))


@dataclass(frozen=True)
class Case:
    """The expected plan for a machine.

    Args:
        why: how the result was derived.
        server: the machine.
        options: the requested options.
        rows: for each worker its hardware threads, cores, memory, and threads.
        reason: nano-run's reason for the number of workers.
    """

    why: str
    server: Server
    options: tuple[str, ...]
    rows: tuple[tuple[str, int, str, int], ...]
    reason: str


AUTO = ("--nproc-per-node", "auto")
CASES = {
    "2 nodes of 2 cores": Case(
        "cores 0-1 and their siblings 4-5 are node 0, the rest node 1",
        Server(sockets=2, nodes=1, cores=2, smt=2),
        AUTO,
        (("0-1,4-5", 2, "node 0", 2), ("2-3,6-7", 2, "node 1", 2)),
        "2 workers: one per NUMA node",
    ),
    "2 sockets of 64 cores": Case(
        "128 cores, so siblings begin at 128; NUMA nodes take precedence over their 8 caches of 8 "
        "cores; one TensorFlow thread per core, not per hardware thread",
        Server(sockets=2, nodes=1, cores=64, smt=2, cache=8),
        AUTO,
        (("0-63,128-191", 64, "node 0", 64), ("64-127,192-255", 64, "node 1", 64)),
        "2 workers: one per NUMA node",
    ),
    "2 sockets of 64 cores, 4 workers": Case(
        "two workers per socket, half of its 64 cores each; the siblings of cores 0-31 are 128-159",
        Server(sockets=2, nodes=1, cores=64, smt=2, cache=8),
        ("--nproc-per-node", "4"),
        (
            ("0-31,128-159", 32, "node 0", 32),
            ("32-63,160-191", 32, "node 0", 32),
            ("64-95,192-223", 32, "node 1", 32),
            ("96-127,224-255", 32, "node 1", 32),
        ),
        "4 workers, as requested",
    ),
    "2 sockets of 64 cores, 3 workers": Case(
        "3 does not divide by 2 nodes: 128 = 43 + 43 + 42 cores in a row; the middle worker's "
        "43-85 are on both nodes, and memory of all nodes needs no binding",
        Server(sockets=2, nodes=1, cores=64, smt=2),
        ("--nproc-per-node", "3"),
        (
            ("0-42,128-170", 43, "node 0", 43),
            ("43-85,171-213", 43, "any", 43),
            ("86-127,214-255", 42, "node 1", 42),
        ),
        "3 workers, as requested",
    ),
    "2 sockets of 64 cores, quota of 32": Case(
        "a worker's share of the quota is 16 processors: it is bound to 16 cores of its node",
        Server(sockets=2, nodes=1, cores=64, smt=2, quota=32),
        AUTO,
        (("0-15,128-143", 16, "node 0", 16), ("64-79,192-207", 16, "node 1", 16)),
        "2 workers: one per NUMA node",
    ),
    "1 socket of 64 cores with 8 caches": Case(
        "one node, but caches of 8 cores, which is enough for a worker each: 8 of 8 cores; "
        "with one node, memory needs no binding",
        Server(sockets=1, nodes=1, cores=64, smt=2, cache=8),
        AUTO,
        tuple((f"{8 * n}-{8 * n + 7},{8 * n + 64}-{8 * n + 71}", 8, "any", 8) for n in range(8)),
        "8 workers: one per last-level cache",
    ),
    "4 sockets of 48 cores": Case(
        "192 hardware threads without siblings, numbered in turn over the sockets: socket 1 has "
        "1, 5, 9 and so on to 189, which are 48",
        Server(sockets=4, nodes=1, cores=48, interleaved=True),
        AUTO,
        tuple(
            (",".join(str(4 * n + socket) for n in range(48)), 48, f"node {socket}", 48)
            for socket in range(4)
        ),
        "4 workers: one per NUMA node",
    ),
    "4 sockets of 48 cores, 2 workers": Case(
        "two whole sockets each, 96 cores; memory of both of them, not of the others",
        Server(sockets=4, nodes=1, cores=48),
        ("--nproc-per-node", "2"),
        (("0-95", 96, "node 0-1", 96), ("96-191", 96, "node 2-3", 96)),
        "2 workers, as requested",
    ),
    "4 sockets of 48 cores, 64 threads": Case(
        "the user's limit applies to the host: 64 / 4 = 16 cores each, the first ones of each node",
        Server(sockets=4, nodes=1, cores=48),
        (*AUTO, "--threads", "64"),
        tuple((f"{48 * n}-{48 * n + 15}", 16, f"node {n}", 16) for n in range(4)),
        "4 workers: one per NUMA node",
    ),
    "8 nodes, one without memory": Case(
        "2 sockets of 4 nodes of 16 cores: 128 cores, siblings from 128; node n has 16 n to "
        "16 n + 15; node 5 has no memory, so its worker's memory is not bound",
        Server(sockets=2, nodes=4, cores=16, smt=2, bare=(5,)),
        AUTO,
        tuple(
            (
                f"{16 * n}-{16 * n + 15},{16 * n + 128}-{16 * n + 143}",
                16,
                "any" if n == 5 else f"node {n}",
                16,
            )
            for n in range(8)
        ),
        "8 workers: one per NUMA node",
    ),
    "8 nodes, 4 workers": Case(
        "two nodes each, of one socket: nodes 0-1, 2-3, 4-5, 6-7",
        Server(sockets=2, nodes=4, cores=16, smt=2),
        ("--nproc-per-node", "4"),
        tuple(
            (
                f"{32 * n}-{32 * n + 31},{32 * n + 128}-{32 * n + 159}",
                32,
                f"node {2 * n}-{2 * n + 1}",
                32,
            )
            for n in range(4)
        ),
        "4 workers, as requested",
    ),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def read_table(text: str) -> list[tuple[str, int, str, int]]:
    """Return the rows of a dry run's table: hardware threads, cores, memory, threads."""
    pattern = r"# \d+ +([\d,-]+) +(\d+) +(node [\d,-]+|any) +(\d+)"
    rows = [match for line in text.splitlines() if (match := re.fullmatch(pattern, line))]
    return [(row[1], int(row[2]), row[3], int(row[4])) for row in rows]


def test_a_recorded_machine_gets_the_expected_plan(
    nano_run: Callable, nano_init_command: Callable, tmp_path: Path, case: Case
):
    """The folder and its recording give the workers that were derived by hand."""
    case.server.write(tmp_path / "machine")
    (tmp_path / "s.py").write_text("")
    recorded = nano_init_command("--record", "machine.tar.gz", "--sysroot", "machine")
    assert recorded.returncode == 0, recorded.stderr

    for root in ("machine", "machine.tar.gz"):
        result = nano_run("--dry-run", *case.options, "--sysroot", root, "s.py")
        assert tuple(read_table(result.stdout)) == case.rows, result.stderr
        assert result.stdout.startswith(f"# {case.reason}, on host 0 of 1\n")
        assert "warning" not in result.stdout


def test_workers_share_no_core_and_have_one_thread_per_core(
    nano_run: Callable, tmp_path: Path, case: Case
):
    case.server.write(tmp_path)
    (tmp_path / "s.py").write_text("")

    text = nano_run("--dry-run", *case.options, "--sysroot", ".", "s.py").stdout
    lists = [parse_cpu_list(cpus) for cpus, *_ in read_table(text)]
    taken = [cpu for cpus in lists for cpu in cpus]
    assert len(taken) == len(set(taken)) > 0
    cores = case.server.sockets * case.server.nodes * case.server.cores
    for cpus in lists:
        assert {cpu % cores + n * cores for cpu in cpus for n in range(case.server.smt)} == {*cpus}
    workers = text.split("\n# worker ")[2:]
    assert len(workers) == len(case.rows)
    for (*_, threads), worker in zip(case.rows, workers, strict=True):
        for name in THREADS:
            assert f"export {name}={threads}\n" in worker
