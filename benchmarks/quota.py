"""Gain from the right number of threads under a container's CPU quota.

    sudo "$(which python)" benchmarks/quota.py [--quota 1.0] [--rounds 3]

Creates a cgroup with a CPU quota (as `docker run --cpus` does), trains the same network in it
alternately under plain `python` and `nano-run --precision float32`, and prints the time of a
training step and the number of throttled scheduler periods. The faster paths are switched off, so
that the number of threads is the only difference. Needs permission to create a cgroup (root), and
TensorFlow.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from record import Column, Table, add_json_option, format_table, write_record

if TYPE_CHECKING:
    from collections.abc import Iterator

_PERIOD_US = 100_000

_TRAINING = """
import json, time
import keras, numpy as np
keras.utils.set_random_seed(1)
x = np.random.default_rng(1).random((256 * 40, 1024), dtype="float32")
y = np.arange(len(x)) % 10
model = keras.Sequential([keras.Input((1024,))]
    + [keras.layers.Dense(1024, activation="relu") for _ in range(4)]
    + [keras.layers.Dense(10)])
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
class Steps(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        times.append(time.perf_counter())
model.fit(x, y, batch_size=256, epochs=1, verbose=0)
times = [time.perf_counter()]
model.fit(x, y, batch_size=256, epochs=2, verbose=0, callbacks=[Steps()])
print(json.dumps([1000 * (b - a) for a, b in zip(times, times[1:])]))
"""


def main() -> None:
    """Train under the quota both ways alternately, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    half = len(os.sched_getaffinity(0)) / 2
    parser.add_argument("--quota", type=float, default=half, help="processors of CPU time")
    parser.add_argument("--rounds", type=int, default=3)
    add_json_option(parser, "quota")
    options = parser.parse_args()

    nano_run = str(Path(sys.executable).with_name("nano-run"))
    commands = {
        "python": [sys.executable, "-c", _TRAINING],
        "nano-run": [nano_run, "-q", "--precision", "float32", "-"],
    }
    steps: dict[str, list[float]] = {name: [] for name in commands}
    throttled: dict[str, list[float]] = {name: [] for name in commands}
    with quota_group(options.quota) as group:
        for _ in range(options.rounds):
            for name, command in commands.items():
                before = _read_statistics(group)
                steps[name].append(_median_step(command, group))
                after = _read_statistics(group)
                periods = after["nr_periods"] - before["nr_periods"]
                throttled[name].append((after["nr_throttled"] - before["nr_throttled"]) / periods)

    ratios = [a / b for a, b in zip(steps["python"], steps["nano-run"], strict=True)]
    columns = (
        Column("command"),
        Column("ms/step", 1),
        Column("min", 1),
        Column("max", 1),
        Column("throttled periods", percent=True),
        Column("times as fast (pairwise median)", 2),
    )
    rows = tuple(
        (
            name,
            statistics.median(steps[name]),
            min(steps[name]),
            max(steps[name]),
            statistics.median(throttled[name]),
            statistics.median(ratios) if name == "nano-run" else None,
        )
        for name in commands
    )
    table = Table("quota", f"An MLP under a quota of {options.quota:g} processors", columns, rows)
    print(format_table(table))
    if options.json:
        write_record(options.json, "quota", [table], steps=steps)


@contextlib.contextmanager
def quota_group(processors: float) -> Iterator[Path]:
    """Create a cgroup (version 1 or 2) with a CPU quota, and remove it at the end."""
    first = Path("/sys/fs/cgroup/cpu")
    parent = first if first.is_dir() else Path("/sys/fs/cgroup")
    group = parent / f"nano-init-benchmark-{os.getpid()}"
    quota = int(processors * _PERIOD_US)
    try:
        group.mkdir()
        if first.is_dir():
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (group / "cpu.max").write_text(f"{quota} {_PERIOD_US}")
    except OSError as error:
        sys.exit(f"cannot create a cgroup with a quota: {error}; run as root")
    try:
        yield group
    finally:
        group.rmdir()


def _median_step(command: list[str], group: Path) -> float:
    def enter() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))

    kept = {n: v for n, v in os.environ.items() if not n.startswith(("NANO_", "OMP_", "TF_"))}
    done = subprocess.run(
        command,
        input=_TRAINING,
        env={**kept, "TF_CPP_MIN_LOG_LEVEL": "2", "NANO_INIT_DISABLE": "all"},
        preexec_fn=enter,
        capture_output=True,
        text=True,
        check=True,
    )
    return statistics.median(json.loads(done.stdout.splitlines()[-1]))


def _read_statistics(group: Path) -> dict[str, int]:
    lines = (group / "cpu.stat").read_text().splitlines()
    return {name: int(value) for name, value in (line.split() for line in lines)}


if __name__ == "__main__":
    main()
