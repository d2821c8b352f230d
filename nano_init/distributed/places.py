"""Where a worker is in its program, as one number that the others can read at any moment.

All workers come to the same meetings in the same order, and between two of them to the same
collectives of TensorFlow: nobody gets beyond one before all have come to it. A place counts
both, the collectives since the last meeting. In between there may be acts that a script leaves
to some workers (see `acts`).

Counts begin again after two thousand million: no two workers are so far apart.
"""

from __future__ import annotations

__all__ = ["is_at_further_collective", "is_beyond", "next_collective", "next_meeting"]

_BITS = 31  # of either count, so that both fit into an int64
_MOST = (1 << _BITS) - 1


def next_meeting(place: int) -> int:
    """Return the place at the next meeting."""
    return ((place >> _BITS) + 1 & _MOST) << _BITS


def next_collective(place: int) -> int:
    """Return the place at the next collective of TensorFlow."""
    return place >> _BITS << _BITS | place + 1 & _MOST


def is_beyond(place: int, other: int) -> bool:
    """Say whether one place comes after another.

    Args:
        place: Where a worker is.
        other: Where another one is.
    """
    meetings = (place >> _BITS) - (other >> _BITS) & _MOST
    collectives = place - other & _MOST
    return _is_ahead(meetings) or (meetings == 0 and _is_ahead(collectives))


def is_at_further_collective(place: int, other: int) -> bool:
    """Say whether one place comes after another, with no meeting in between.

    Args:
        place: Where a worker is.
        other: Where another one is.
    """
    return place >> _BITS == other >> _BITS and is_beyond(place, other)


def _is_ahead(difference: int) -> bool:
    return 0 < difference < _MOST // 2
