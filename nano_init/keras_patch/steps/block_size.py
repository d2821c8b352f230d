"""How many steps a block has, and when a graph of blocks pays for its making."""

from __future__ import annotations

from nano_init.frozen import frozen

__all__ = ["TARGET_SECONDS", "Pace", "choose_size", "make_blocks_soon"]

# What "auto" aims at: a progress bar and Ctrl-C still feel immediate.
TARGET_SECONDS = 0.05
_MOST_STEPS = 64

# A step of `fit` on its own spends this between two graphs (Keras 3.15 under the patch, Zen 4).
_RETURN_SECONDS = 2e-4

# A graph of blocks is optimized, not traced again: it takes about this much of the first step.
_SHARE_OF_FIRST_STEP = 0.3

# A block of fewer steps saves less than two steps in a hundred.
_FEWEST_STEPS = 4

# The first steps after the trace still fill caches.
_WARM_STEPS = 3


def choose_size(seconds: float) -> int:
    """Return how many steps take about 50 ms: a power of two, at most 64.

    Args:
        seconds: The time of one step.
    """
    size = 1
    while size < _MOST_STEPS and 2 * size * seconds <= TARGET_SECONDS:
        size *= 2
    return size


@frozen
class Pace:
    """How fast a train function has run so far, one step at a time.

    Args:
        steps: The steps so far.
        first: Seconds that the first step took, with its trace.
        fastest: Seconds of the fastest step since.
        latest: Seconds of the latest step.
    """

    steps: int = 0
    first: float = 0.0
    fastest: float = float("inf")
    latest: float = float("inf")

    def after(self, seconds: float) -> Pace:
        """Return the pace after one more step of so many seconds."""
        if not self.steps:
            return Pace(1, seconds)
        return Pace(self.steps + 1, self.first, min(self.fastest, seconds), seconds)

    def favours_blocks(self, left: int | None) -> bool:
        """Say whether blocks save more time than their graph takes to make.

        Where the number of steps to come is unknown, it is taken to be that of the steps so far:
        the graph then never costs more than was spent without it.

        Args:
            left: The steps to come, or None.
        """
        if self.steps <= _WARM_STEPS or choose_size(self.fastest) < _FEWEST_STEPS:
            return False
        to_come = self.steps if left is None else max(left, self.steps)
        return _is_soon or to_come * _RETURN_SECONDS >= self.first * _SHARE_OF_FIRST_STEP


# A sample of a few steps is to show what a long training does.
_is_soon = False


def make_blocks_soon() -> None:
    """Run blocks in this process as soon as a step's time is known."""
    global _is_soon
    _is_soon = True
