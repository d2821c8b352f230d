"""A worker's logical clock shows whether another one has gone on since."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init.distributed.logical_clock import is_later, next_barrier, next_collective

STEPS = st.sampled_from([next_barrier, next_collective])
LAST = (1 << 31) - 1


def walk(time, steps):
    for step in steps:
        time = step(time)
    return time


@given(st.lists(STEPS, max_size=50), st.lists(STEPS, min_size=1, max_size=5))
def test_who_has_gone_on_is_later_and_never_the_other_way_round(common, more):
    time = walk(0, common)

    assert is_later(walk(time, more), time)
    assert not is_later(time, walk(time, more))
    assert not is_later(time, time)


@pytest.mark.parametrize("start", [LAST - 1, LAST, LAST - 1 << 31, LAST << 31, LAST << 31 | LAST])
@given(st.lists(STEPS, min_size=1, max_size=4))
def test_counts_begin_again_without_a_worker_being_taken_for_one_ahead(start, steps):
    assert is_later(walk(start, steps), start)
    assert not is_later(start, walk(start, steps))


@given(st.lists(STEPS, max_size=3000))
def test_a_time_stays_a_number_that_the_memory_holds(steps):
    assert 0 <= walk(LAST << 31 | LAST, steps) < 1 << 63
