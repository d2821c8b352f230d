"""A worker's place tells whether it takes part in an act, or has gone on without."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init.keras_patch.distribution.places import (
    is_beyond,
    next_act,
    next_collective,
    next_meeting,
    took_part,
)

STEPS = {"meeting": next_meeting, "collective": next_collective}


def walk(place, *steps):
    for step in steps:
        place = next_act(place) if step == "act" else STEPS[step](place)
    return place


@pytest.mark.parametrize("common", STEPS)
@pytest.mark.parametrize(
    ("other", "does"),
    [
        ((), False),
        (("act",), True),
        (("act", "act"), True),
        (("act", "{}"), True),
        (("act", "act", "{}"), True),
        (("{}",), False),
        # An act of its own after what is common is none of those before.
        (("{}", "act"), False),
    ],
)
@given(shared=st.lists(st.sampled_from(["meeting", "collective", "act"]), max_size=30))
def test_who_comes_to_an_act_takes_part_also_after_going_on(common, other, does, shared):
    before = walk(0, *shared, "meeting")

    theirs = walk(before, *(step.format(common) for step in other))
    assert took_part(theirs, walk(before, "act")) == does


@pytest.mark.parametrize("common", STEPS)
def test_who_takes_part_in_the_first_act_only_is_known_not_to_in_the_second(common):
    act = walk(0, "act", "act")

    assert not took_part(walk(0, "act"), act)
    assert not is_beyond(walk(0, "act"), act)
    assert not took_part(walk(0, "act", common), act)
    assert is_beyond(walk(0, "act", common), act)


@given(meetings=st.sampled_from([0, 1, (1 << 20) - 2, (1 << 20) - 1, 5 << 20]))
def test_counts_begin_again_without_a_worker_being_taken_for_one_ahead(meetings):
    start = meetings % (1 << 20) << 40

    assert is_beyond(next_meeting(start), next_act(start))
    assert not is_beyond(start, next_act(next_meeting(start)))
    assert took_part(next_meeting(next_act(start)), next_act(start))


@given(st.lists(st.sampled_from([next_meeting, next_collective, next_act]), max_size=3000))
def test_a_place_stays_a_number_that_the_memory_holds(steps):
    place = 0
    for step in steps:
        place = step(place)

    assert 0 <= place < 1 << 63


@pytest.mark.parametrize("collectives", [(1 << 20) - 2, (1 << 20) - 1])
def test_collectives_begin_again_after_a_million(collectives):
    start = collectives << 20

    assert is_beyond(next_collective(start), next_act(start))
    assert not is_beyond(start, next_act(next_collective(start)))
    assert took_part(next_collective(next_act(start)), next_act(start))
    assert not took_part(next_collective(start), next_act(start))


def test_more_acts_than_can_be_counted_change_no_other_count():
    place = start = next_meeting(0)
    for _ in range(1100):
        place = next_act(place)
    assert not is_beyond(place, start)
    assert next_meeting(place) >> 40 == 2
