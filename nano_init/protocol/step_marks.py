"""The marks of steps: in a record of a training, and as lines between those of oneDNN. Pure.

A mark of a record is the end of one or more steps: seconds of the monotonic clock, the number of
the optimizer that stepped, how many steps it has made by then, and the loss of the last or None.
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
    """Return the marks of the optimizer that has stepped most often."""
    by_optimizer: dict[int, list[Sequence[Any]]] = {}
    for mark in marks:
        by_optimizer.setdefault(mark[1], []).append(mark)
    return max(by_optimizer.values(), key=len, default=[])


def step_seconds(marks: Sequence[Sequence[Any]]) -> tuple[float, ...]:
    """Return the seconds of each step between marks; one entry where a mark stands for several.

    Args:
        marks: of one optimizer.
    """
    return tuple(
        (after[0] - before[0]) / max(1, after[2] - before[2]) for before, after in pairwise(marks)
    )


def step_mark(made: int, optimizer: int) -> str:
    """Return the line that marks a step.

    Args:
        made: how many steps the optimizer has made by then.
        optimizer: which one it is, by the order of their first use.
    """
    return f"nano-run: step {made} of optimizer {optimizer}"


def find_step_marks(lines: Sequence[str]) -> list[tuple[int, int]]:
    """Return where steps have ended of the optimizer that has most marks.

    Args:
        lines: what a process has printed; a mark may stand behind what has no end of line.

    Returns:
        For each mark the number of its line, and how many steps were made by then.
    """
    by_optimizer: dict[str, list[tuple[int, int]]] = {}
    for number, line in enumerate(lines):
        if mark := _MARK.search(line):
            by_optimizer.setdefault(mark[2], []).append((number, int(mark[1])))
    return max(by_optimizer.values(), key=len, default=[])
