"""The clock that the programs of the benchmark time steps with."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

__all__ = ["add_clock_option", "clock_of"]


def add_clock_option(parser: argparse.ArgumentParser) -> None:
    """Add the option `--processor-time` to a program that times steps."""
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="time all threads of the process, not the clock: for a machine that others use too",
    )


def clock_of(options: argparse.Namespace) -> Callable[[], float]:
    """Return the clock, in seconds: processor time of the process, or elapsed time."""
    return time.process_time if options.processor_time else time.perf_counter
