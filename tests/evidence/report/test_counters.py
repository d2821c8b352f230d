"""The kernel's counters are read in their own format; missing counters are not an error."""

from __future__ import annotations

import os
from pathlib import Path

from nano_init.evidence.report.counters import Counters, Threads, Usage, read_counters, used_between


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_all_counters_are_read(tmp_path: Path) -> None:
    write(tmp_path, "proc/stat", "cpu  10 1 5 80 2 0 1 7 3 0\ncpu0 10 1 5 80 2 0 1 7 3 0\n")
    stat = "usage_usec 9\nnr_periods 40\nnr_throttled 10\nthrottled_usec 55\n"
    write(tmp_path, "sys/fs/cgroup/a/cpu.stat", stat)
    for node in (0, 1):
        write(
            tmp_path,
            f"sys/devices/system/node/node{node}/numastat",
            "numa_hit 90\nnuma_miss 10\nother_node 5\n",
        )
    assert read_counters("/sys/fs/cgroup/a/cpu.max", str(tmp_path)) == Counters(
        106, 7, 40, 10, 20, 200
    )


def test_numa_counters_are_ignored_on_a_single_node(tmp_path: Path) -> None:
    write(tmp_path, "sys/devices/system/node/node0/numastat", "numa_hit 90\nnuma_miss 0\n")
    assert read_counters("", str(tmp_path)).numa_all == 0


def test_missing_counters_give_unknown_usage(tmp_path: Path) -> None:
    none = read_counters("/sys/fs/cgroup/cpu.max", str(tmp_path))
    assert used_between(none, none) == Usage(None, None, None)


def test_usage_is_a_share_of_the_interval() -> None:
    before, after = Counters(100, 10, 40, 4, 0, 0), Counters(300, 30, 60, 14, 5, 50)
    assert used_between(before, after) == Usage(steal=0.1, throttled=0.5, numa_miss=0.1)


def test_a_busy_thread_is_counted_on_its_processor_whatever_its_name(tmp_path: Path) -> None:
    def stat(ticks: int, processor: int) -> str:
        fields = ["S", *["0"] * 10, str(ticks), "0", *["0"] * 23, str(processor), "0", "0"]
        return f"12 (a) b) {' '.join(fields)}\n"

    threads = Threads()
    for ticks in (5, 9, 9):
        write(tmp_path, "proc/12/task/12/stat", stat(ticks, 3))
        write(tmp_path, "proc/12/task/13/stat", stat(0, 1))
        threads.look(12, str(tmp_path))
    assert (threads.most, threads.processors) == (2, {3: 2})


def test_this_process_has_a_busy_thread() -> None:
    threads = Threads()
    sum(range(3_000_000))
    threads.look(os.getpid())
    assert threads.most >= 1
    assert set(threads.processors) <= set(range(os.cpu_count() or 1))
