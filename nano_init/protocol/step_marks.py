"""The marks of steps: in a training's record, and as lines in oneDNN's output. Pure.

A mark in a record is the end of one or more steps: seconds of the monotonic clock, the index of the
optimizer that stepped, the number of its steps so far, and the loss of the last step or None.
"""

from __future__ import annotations

import re
from itertools import pairwise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["find_step_marks", "main_marks", "step_mark", "step_seconds"]

_MARK = re.compile(r"nano-run: step (\d+) of optimizer (\d+)$")


def main_marks(marks: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """Return the marks of the optimizer with the most steps."""
    by_optimizer: dict[int, list[Sequence[Any]]] = {}
    for mark in marks:
        by_optimizer.setdefault(mark[1], []).append(mark)
    return max(by_optimizer.values(), key=len, default=[])


def step_seconds(marks: Sequence[Sequence[Any]]) -> tuple[float, ...]:
    """Return the seconds of each step between marks; a mark for several steps gives one entry.

    Args:
        marks: the marks of one optimizer.
    """
    return tuple(
        (after[0] - before[0]) / max(1, after[2] - before[2]) for before, after in pairwise(marks)
    )


def step_mark(made: int, optimizer: int) -> str:
    """Return the line that marks a step.

    Args:
        made: the number of steps of the optimizer so far.
        optimizer: its index in the order of first use.
    """
    return f"nano-run: step {made} of optimizer {optimizer}"


def find_step_marks(lines: Sequence[str]) -> list[tuple[int, int]]:
    """Return where the steps of the optimizer with the most marks ended.

    Args:
        lines: the output of a process; a mark may follow text without a line break.

    Returns:
        For each mark its line number, and the number of steps so far.
    """
    by_optimizer: dict[str, list[tuple[int, int]]] = {}
    for number, line in enumerate(lines):
        if mark := _MARK.search(line):
            by_optimizer.setdefault(mark[2], []).append((number, int(mark[1])))
    return max(by_optimizer.values(), key=len, default=[])
