"""The time that a search may take, and what of it is left for starts and slices. Pure."""

from __future__ import annotations

import math
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Clock"]

# What starts in another configuration may take longer to trace.
_MARGIN = 1.2

# However small the budget: in less, TensorFlow is not even imported.
_LEAST_PATIENCE = 10.0


class Clock:
    """The time that a search may take.

    Args:
        budget: seconds.
        now: tells the time in seconds.
        side: how many trainings start side by side.
    """

    def __init__(self, budget: float, now: Callable[[], float], side: int = 1) -> None:
        self._now, self._start, self._budget, self._side = now, now(), budget, side
        self._start_seconds = self._slice_seconds = 0.0

    @property
    def slice_seconds(self) -> float:
        """Return how long a slice is: of a minute, less than half a second."""
        return min(2.0, max(0.2, self._budget / 150))

    def left(self) -> float:
        """Return the seconds that are left."""
        return self._budget - (self._now() - self._start)

    def patience(self) -> float:
        """Return how long a training may take to its first steps: TensorFlow's import is slow."""
        return max(0.0, max(_LEAST_PATIENCE, self._budget) - self._budget + self.left())

    def fits(self, starts: int, slices: int) -> bool:
        """Say whether as many fit in, each as long as those so far took."""
        starting = math.ceil(starts / self._side) * self._start_seconds
        return self.left() >= starting + slices * self._slice_seconds

    @contextmanager
    def starting(self, number: int) -> Iterator[None]:
        """Note how long as many trainings take to start."""
        since = self._now()
        yield
        seconds = (self._now() - since) / math.ceil(number / self._side)
        # The latest counts: the first may have waited for an import that is shared since.
        self._start_seconds = _MARGIN * seconds

    @contextmanager
    def slicing(self) -> Iterator[None]:
        """Note how long a slice takes."""
        since = self._now()
        yield
        self._slice_seconds = max(self._slice_seconds, self._now() - since)
