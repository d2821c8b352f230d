"""Where a worker is in its program, as one number that the others can read at any moment.

All workers come to the same meetings in the same order, and between two of them to the same
collectives of TensorFlow: nobody gets beyond one before all have come to it. In between there
may be acts that a script leaves to some workers, such as `if rank == 0: model.save(...)`. A
place counts the meetings, the collectives since the last one, the acts since the last of
either, and those before it. It tells who takes part in an act: whoever is at it, or has been
at it when they went on.

Counts of meetings and collectives begin again after a million: no two workers are further apart
than one.
"""

from __future__ import annotations

__all__ = ["is_beyond", "next_act", "next_collective", "next_meeting", "took_part"]

_ACTS, _BEFORE, _COLLECTIVES, _MEETINGS = 0, 10, 20, 40  # where each count's bits begin
_MOST_ACTS = (1 << 10) - 1
_MOST = (1 << 20) - 1


def next_meeting(place: int) -> int:
    """Return the place at the next meeting."""
    meetings = ((place >> _MEETINGS) + 1) & _MOST
    return meetings << _MEETINGS | (place & _MOST_ACTS) << _BEFORE


def next_collective(place: int) -> int:
    """Return the place at the next collective of TensorFlow."""
    meetings, collectives = _place_of(place)
    collectives = (collectives + 1) & _MOST
    begun = meetings << _MEETINGS | collectives << _COLLECTIVES
    return begun | (place & _MOST_ACTS) << _BEFORE


def next_act(place: int) -> int:
    """Return the place at the next act that others may leave out."""
    return place + (place & _MOST_ACTS < _MOST_ACTS)


def is_beyond(place: int, act: int) -> bool:
    """Say whether who is at a place has gone on since an act.

    Args:
        place: Where a worker is.
        act: Where another one is, at an act.
    """
    meetings, collectives = _place_of(place)
    meetings_then, collectives_then = _place_of(act)
    ahead = (meetings - meetings_then) & _MOST
    further = (collectives - collectives_then) & _MOST
    return _is_ahead(ahead) or (ahead == 0 and _is_ahead(further))


def took_part(place: int, act: int) -> bool:
    """Say whether who is at a place takes part, or took part, in an act.

    Args:
        place: Where a worker is.
        act: Where another one is, at the act.
    """
    number = act & _MOST_ACTS
    if is_beyond(place, act):
        return (place >> _BEFORE) & _MOST_ACTS >= number
    return _place_of(place) == _place_of(act) and place & _MOST_ACTS >= number


def _is_ahead(difference: int) -> bool:
    return 0 < difference < _MOST // 2


def _place_of(place: int) -> tuple[int, int]:
    return place >> _MEETINGS, (place >> _COLLECTIVES) & _MOST
