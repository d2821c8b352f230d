"""A logical clock: the position of a worker in its program, as a number that others can read.

All workers reach the same barriers in the same order, and between two barriers the same collectives
of TensorFlow. None passes one before all have reached it. A time consists of the number of barriers
and of the number of collectives since the last barrier. In between there may be saves that a script
leaves to some workers (see `save_consensus`). The idea: Lamport, "Time, Clocks, and the Ordering of
Events in a Distributed System", 1978.

Counters wrap around after two billion: no two workers are so far apart.
"""

from __future__ import annotations

__all__ = ["is_at_later_collective", "is_later", "next_barrier", "next_collective"]

_BITS = 31  # of each counter, so that both fit into an int64
_MOST = (1 << _BITS) - 1


def next_barrier(time: int) -> int:
    """Return the time at the next barrier."""
    return ((time >> _BITS) + 1 & _MOST) << _BITS


def next_collective(time: int) -> int:
    """Return the time at the next collective of TensorFlow."""
    return time >> _BITS << _BITS | time + 1 & _MOST


def is_later(time: int, other: int) -> bool:
    """Say whether one time is later than another.

    Args:
        time: The time of a worker.
        other: The time of another worker.
    """
    barriers = (time >> _BITS) - (other >> _BITS) & _MOST
    collectives = time - other & _MOST
    return _is_ahead(barriers) or (barriers == 0 and _is_ahead(collectives))


def is_at_later_collective(time: int, other: int) -> bool:
    """Say whether one time is later than another, with no barrier in between.

    Args:
        time: The time of a worker.
        other: The time of another worker.
    """
    return time >> _BITS == other >> _BITS and is_later(time, other)


def _is_ahead(difference: int) -> bool:
    return 0 < difference < _MOST // 2
