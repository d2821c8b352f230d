"""The logical clock shows whether another worker has made progress."""

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
def test_a_worker_that_has_made_progress_is_later_and_never_earlier(common, more):
    time = walk(0, common)

    assert is_later(walk(time, more), time)
    assert not is_later(time, walk(time, more))
    assert not is_later(time, time)


@pytest.mark.parametrize("start", [LAST - 1, LAST, LAST - 1 << 31, LAST << 31, LAST << 31 | LAST])
@given(st.lists(STEPS, min_size=1, max_size=4))
def test_counter_wraparound_keeps_the_order(start, steps):
    assert is_later(walk(start, steps), start)
    assert not is_later(start, walk(start, steps))


@given(st.lists(STEPS, max_size=3000))
def test_a_time_fits_into_63_bits(steps):
    assert 0 <= walk(LAST << 31 | LAST, steps) < 1 << 63
