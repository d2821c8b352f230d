"""A logical clock: where a worker is in its program, as one number that the others can read.

All workers come to the same barriers in the same order, and between two of them to the same
collectives of TensorFlow: nobody gets beyond one before all have come to it. A time counts
both, the collectives since the last barrier. In between there may be saves that a script leaves
to some workers (see `save_consensus`). The idea: Lamport, "Time, Clocks, and the Ordering of
Events in a Distributed System", 1978.

Counts begin again after two thousand million: no two workers are so far apart.
"""

from __future__ import annotations

__all__ = ["is_at_later_collective", "is_later", "next_barrier", "next_collective"]

_BITS = 31  # of either count, so that both fit into an int64
_MOST = (1 << _BITS) - 1


def next_barrier(time: int) -> int:
    """Return the time at the next barrier."""
    return ((time >> _BITS) + 1 & _MOST) << _BITS


def next_collective(time: int) -> int:
    """Return the time at the next collective of TensorFlow."""
    return time >> _BITS << _BITS | time + 1 & _MOST


def is_later(time: int, other: int) -> bool:
    """Say whether one time comes after another.

    Args:
        time: Of a worker.
        other: Of another one.
    """
    barriers = (time >> _BITS) - (other >> _BITS) & _MOST
    collectives = time - other & _MOST
    return _is_ahead(barriers) or (barriers == 0 and _is_ahead(collectives))


def is_at_later_collective(time: int, other: int) -> bool:
    """Say whether one time comes after another, with no barrier in between.

    Args:
        time: Of a worker.
        other: Of another one.
    """
    return time >> _BITS == other >> _BITS and is_later(time, other)


def _is_ahead(difference: int) -> bool:
    return 0 < difference < _MOST // 2
