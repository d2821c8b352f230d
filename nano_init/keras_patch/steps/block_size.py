"""The number of steps in a block, and when a graph for blocks pays off."""

from __future__ import annotations

from nano_init.frozen import frozen

__all__ = [
    "TARGET_SECONDS",
    "Pace",
    "are_blocks_default",
    "choose_size",
    "leave_out_default_blocks",
    "make_blocks_soon",
]

# The target of "auto": the progress bar and Ctrl-C still feel immediate.
TARGET_SECONDS = 0.05
_MOST_STEPS = 64

# The overhead of a single step of `fit` between graphs (Keras 3.15 under the patch, Zen 4).
_RETURN_SECONDS = 2e-4

# A graph for blocks is optimized but not traced again: about this fraction of the first step.
_SHARE_OF_FIRST_STEP = 0.3

# A block of fewer steps saves less than 2 %.
_FEWEST_STEPS = 4

# The first steps after the trace still warm up caches.
_WARM_STEPS = 3


def choose_size(seconds: float) -> int:
    """Return the number of steps that take about 50 ms: a power of two, at most 64.

    Args:
        seconds: The time of one step.
    """
    size = 1
    while size < _MOST_STEPS and 2 * size * seconds <= TARGET_SECONDS:
        size *= 2
    return size


@frozen
class Pace:
    """The speed of a train function so far, one step at a time.

    Args:
        steps: The number of steps so far.
        first: Seconds of the first step, with its trace.
        fastest: Seconds of the fastest step since.
        latest: Seconds of the latest step.
    """

    steps: int = 0
    first: float = 0.0
    fastest: float = float("inf")
    latest: float = float("inf")

    def after(self, seconds: float) -> Pace:
        """Return the pace after one more step with this time in seconds."""
        if not self.steps:
            return Pace(1, seconds)
        return Pace(self.steps + 1, self.first, min(self.fastest, seconds), seconds)

    def favours_blocks(self, left: int | None) -> bool:
        """Say whether blocks save more time than it takes to create their graph.

        If the number of remaining steps is unknown, the number of steps so far is used. Then the
        graph never costs more than the time already spent without it.

        Args:
            left: The number of remaining steps, or None.
        """
        if self.steps <= _WARM_STEPS or choose_size(self.fastest) < _FEWEST_STEPS:
            return False
        to_come = self.steps if left is None else max(left, self.steps)
        return _is_soon or to_come * _RETURN_SECONDS >= self.first * _SHARE_OF_FIRST_STEP


_is_soon = False
_is_default_on = True


def make_blocks_soon() -> None:
    """Make this process run blocks as soon as the time of a step is known."""
    global _is_soon
    _is_soon = True


def leave_out_default_blocks() -> None:
    """Make this process run blocks only where the user asked for them.

    A sample measures single steps; a block of many would be one measurement.
    """
    global _is_default_on
    _is_default_on = False


def are_blocks_default() -> bool:
    """Say whether `fit` runs blocks by default, without a request."""
    return _is_default_on
