"""A difference is reported only if the rounds show one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init.evidence.sampling.differences import compare_rounds

TIMES = st.floats(1e-4, 1e3)


def test_a_steady_ratio_is_real() -> None:
    found = compare_rounds([100, 102, 98, 101], [50, 52, 48, 51])
    assert found.ratio == pytest.approx(2, rel=0.02)
    assert found.is_real


def test_a_ratio_that_changes_direction_is_not_real() -> None:
    assert not compare_rounds([100, 90, 110], [90, 100, 100]).is_real


def test_a_consistent_but_tiny_ratio_is_not_real() -> None:
    assert not compare_rounds([100.0, 100.01, 100.0, 100.01], [99.5, 99.51, 99.5, 99.51]).is_real


def test_drift_of_the_machine_does_not_hide_a_difference() -> None:
    """The machine becomes three times as slow; the ratio within each round stays the same."""
    first, second = [100, 200, 300, 310], [80, 161, 239, 248]
    assert compare_rounds(first, second).is_real


@pytest.mark.parametrize("rounds", [3, 4, 8])
def test_samples_of_the_same_thing_seldom_differ(rounds: int) -> None:
    """At most one in twenty comparisons of equals may report a difference (of more than 2 %)."""
    generator = random.Random(7)
    wrong = sum(
        compare_rounds(
            [generator.lognormvariate(0, 0.1) for _ in range(rounds)],
            [generator.lognormvariate(0, 0.1) for _ in range(rounds)],
        ).is_real
        for _ in range(2000)
    )
    assert wrong <= 0.06 * 2000


@given(st.lists(st.tuples(TIMES, TIMES), min_size=3, max_size=40))
def test_the_interval_contains_the_ratio_which_inverts_with_the_order(
    pairs: list[tuple[float, float]],
) -> None:
    first, second = zip(*pairs, strict=True)
    there, back = compare_rounds(first, second), compare_rounds(second, first)
    assert there.low <= there.ratio * (1 + 1e-9)
    assert there.ratio <= there.high * (1 + 1e-9)
    assert there.ratio * back.ratio == pytest.approx(1)
    assert there.is_real == back.is_real


def test_two_rounds_are_too_few() -> None:
    with pytest.raises(ValueError, match="2 rounds are too few; 3 are needed"):
        compare_rounds([1, 2], [1, 2])
