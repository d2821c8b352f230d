"""Lines between oneDNN's that tell where a step has ended. Pure."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["find_step_marks", "step_mark"]

_MARK = re.compile(r"nano-run: step (\d+) of optimizer (\d+)$")


def step_mark(made: int, optimizer: int) -> str:
    """Return the line that tells of a step.

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
