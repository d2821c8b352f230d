"""Time whole commands against each other: interleaved, with medians and spread."""

from __future__ import annotations

import statistics
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Timing", "format_timings", "time_commands"]


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
    """Run commands in turn, round after round, and time each run from outside.

    Args:
        commands: argument lists by the name to show.
        rounds: how many times each command runs, after one warm-up that is not counted.
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


def format_timings(timings: Sequence[Timing]) -> str:
    """Return a table; difference and ratio are against the first command, round by round."""
    base = timings[0]
    rows = [("command", "median ms", "min", "max", "more ms", "ratio")]
    for timing in timings:
        pairs = list(zip(timing.milliseconds, base.milliseconds, strict=True))
        rows.append(
            (
                timing.name,
                f"{timing.median:.1f}",
                f"{min(timing.milliseconds):.1f}",
                f"{max(timing.milliseconds):.1f}",
                f"{statistics.median(a - b for a, b in pairs):+.1f}",
                f"{statistics.median(a / b for a, b in pairs):.2f}",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    )
