"""Time whole commands against each other: interleaved, with medians and spread."""

from __future__ import annotations

import statistics
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from record import Column, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Timing", "time_commands", "timing_table"]


@dataclass(frozen=True)
class Timing:
    """Wall times of one command, in milliseconds, in the order of the rounds."""

    name: str
    milliseconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Return the median."""
        return statistics.median(self.milliseconds)


def time_commands(
    commands: Mapping[str, Sequence[str]],
    rounds: int,
    environ: Mapping[str, str],
    cwd: str | None = None,
) -> list[Timing]:
    """Run commands interleaved in rounds, and time each run from outside.

    Args:
        commands: argument lists by the name to show.
        rounds: the number of runs of each command, after one uncounted warm-up.
        environ: the environment of all commands.
        cwd: the folder to run in.

    Raises:
        subprocess.CalledProcessError: a command failed.
    """
    times: dict[str, list[float]] = {name: [] for name in commands}
    for counted in [False, *[True] * rounds]:
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, env=environ, cwd=cwd, capture_output=True, check=True)
            if counted:
                times[name].append((time.perf_counter() - start) * 1000)
    return [Timing(name, tuple(values)) for name, values in times.items()]


def timing_table(name: str, title: str, timings: Sequence[Timing]) -> Table:
    """Return a table; differences and ratios to the first command are computed per round.

    Args:
        name: the table's name.
        title: what it shows.
        timings: the commands' times; the first command is the baseline.
    """
    base = timings[0].milliseconds
    columns = (
        Column("command"),
        Column("ms (least to greatest)", 1),
        Column(f"more than {timings[0].name}, ms", 1),
        Column("ratio", 2),
    )
    rows = tuple(
        (
            timing.name,
            (timing.median, min(timing.milliseconds), max(timing.milliseconds)),
            statistics.median(a - b for a, b in zip(timing.milliseconds, base, strict=True)),
            statistics.median(a / b for a, b in zip(timing.milliseconds, base, strict=True)),
        )
        for timing in timings
    )
    return Table(name, title, columns, rows)
