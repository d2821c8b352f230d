"""The search finds the fastest sound configuration in its time, and never an unsound one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init.errors import SampleError
from nano_init.evidence.configuration import (
    FUSIBLE,
    Configuration,
    first_candidates,
    neighbours,
    parse_configuration,
    with_configuration,
)
from nano_init.evidence.sample import Sample
from nano_init.evidence.search import Clock, Found, is_faithful, search
from nano_init.plan.settings import Options, Plan, PrecisionChoice, Setting, ThreadCount

FLOAT32, BFLOAT16 = Configuration(), Configuration("mixed_bfloat16")
FLOAT32_XLA, BFLOAT16_XLA = Configuration(xla=True), Configuration("mixed_bfloat16", xla=True)
CORE = (FLOAT32, BFLOAT16, FLOAT32_XLA, BFLOAT16_XLA)
BOTH = ("float32", "mixed_bfloat16")


@dataclass
class World:
    """A script whose step times and losses are known, and a clock that samples move."""

    times: dict[Configuration, float]
    losses: dict[Configuration, float] = field(default_factory=dict)
    broken: tuple[Configuration, ...] = ()
    seconds: float = 5.0
    noise: float = 0.1
    now: float = 0.0
    taken: list[tuple[Configuration, int]] = field(default_factory=list)

    def take(self, configuration: Configuration, seed: int, bound: float | None) -> Sample:
        self.now += self.seconds
        self.taken.append((configuration, seed))
        if configuration in self.broken:
            raise SampleError("the script failed")
        time = self.times.get(configuration, 10.0)
        loss = self.losses.get(configuration, 2.0) + seed * self.noise
        return Sample((time,) * 9, (loss,) * 20, 1.0, 32, 1, "[[1]]")

    def find(self, budget: float = 1000.0, default: Configuration = BFLOAT16) -> Found:
        return search(
            CORE,
            default,
            lambda best: neighbours(best, 4, (), {}),
            self.take,
            Clock(budget, lambda: self.now),
        )


def test_the_fastest_wins() -> None:
    world = World({FLOAT32: 4.0, BFLOAT16: 3.0, FLOAT32_XLA: 3.5, BFLOAT16_XLA: 2.0})
    found = world.find()
    assert found.winner == BFLOAT16_XLA
    assert found.gain == pytest.approx(1.5)
    assert [trial.configuration for trial in found.trials[:2]] == [BFLOAT16_XLA, BFLOAT16]


def test_models_that_measure_differently_get_different_choices() -> None:
    convolutional = World({FLOAT32: 4.0, BFLOAT16: 2.0, FLOAT32_XLA: 6.0, BFLOAT16_XLA: 5.0})
    recurrent = World({FLOAT32: 4.0, BFLOAT16: 5.0, FLOAT32_XLA: 3.0, BFLOAT16_XLA: 4.5})
    assert convolutional.find().winner == BFLOAT16
    assert recurrent.find().winner == FLOAT32_XLA


def test_what_lies_beside_the_best_is_tried() -> None:
    best = Configuration("mixed_bfloat16", disable=True)
    assert World({FLOAT32: 4.0, BFLOAT16: 3.0, best: 2.0}).find().winner == best


@pytest.mark.parametrize("loss", [2.5, 1.5, float("nan"), float("inf")])
def test_a_loss_beyond_the_noise_of_seeds_is_never_chosen(loss: float) -> None:
    world = World({FLOAT32: 4.0, BFLOAT16: 1.0}, {BFLOAT16: loss})
    found = world.find()
    assert found.winner == FLOAT32
    assert BFLOAT16 in found.rejected
    assert found.objection == "its loss departs from float32's"


def test_a_loss_within_the_noise_of_seeds_is_sound() -> None:
    assert World({FLOAT32: 4.0, BFLOAT16: 1.0}, {BFLOAT16: 2.15}).find().winner == BFLOAT16


def test_without_noise_only_rounding_is_let_pass() -> None:
    for loss, winner in ((2.001, BFLOAT16), (2.01, FLOAT32)):
        world = World({FLOAT32: 4.0, BFLOAT16: 1.0}, {BFLOAT16: loss}, noise=0.0)
        assert world.find().winner == winner


def test_a_configuration_that_crashes_is_left_out_with_its_reason() -> None:
    world = World({FLOAT32: 4.0, BFLOAT16: 1.0}, broken=(BFLOAT16,))
    found = world.find()
    assert found.winner == FLOAT32
    assert found.trials[-1].fault == "the script failed"


def test_what_cannot_be_sampled_in_float32_is_not_tuned() -> None:
    with pytest.raises(SampleError, match="the script failed"):
        World({}, broken=(FLOAT32,)).find()


def test_a_gain_that_no_user_would_notice_changes_nothing() -> None:
    assert World({FLOAT32: 4.0, BFLOAT16: 3.0, BFLOAT16_XLA: 2.95}).find().winner == BFLOAT16


TIMES = st.floats(0.1, 10)


@given(
    st.tuples(TIMES, TIMES, TIMES, TIMES), st.floats(20, 200), st.sets(st.sampled_from(CORE[1:]))
)
def test_the_budget_holds_and_the_choice_is_sound(
    times: tuple[float, ...], budget: float, wrong: set[Configuration]
) -> None:
    world = World(dict(zip(CORE, times, strict=True)), dict.fromkeys(wrong, 3.0))
    found = world.find(budget)
    assert world.now <= budget
    assert found.winner not in wrong
    assert found.gain >= 1
    tried = {trial.configuration for trial in found.trials}
    sound = [t for c, t in world.times.items() if c not in wrong and c in tried]
    assert world.times.get(found.winner, 10.0) <= min(sound) * 1.031


@pytest.mark.parametrize("budget", [4.0, 11.0, 19.0])
def test_without_time_to_compare_nothing_is_chosen(budget: float) -> None:
    """What would be run anyway is then run: float32 alone is no evidence against it."""
    with pytest.raises(SampleError, match="raise --tune-budget"):
        World({FLOAT32: 4.0, BFLOAT16: 1.0}).find(budget)


def sample(*losses: float) -> Sample:
    return Sample((1.0,), losses, 1.0, None, None, "")


def test_samples_of_different_lengths_are_held_against_each_other_where_both_are() -> None:
    long, short = sample(*range(100, 0, -1)), sample(100.0, 99.0, 98.0, 97.0)
    references = [long, sample(*range(101, 1, -1)), sample(*range(99, 0, -1))]
    assert is_faithful(short, references)
    assert not is_faithful(sample(), references)
    assert not is_faithful(short, references[:2])


class TestConfiguration:
    def test_what_the_user_has_set_is_not_varied(self) -> None:
        assert first_candidates(BOTH, {"TF_XLA_FLAGS": "x"}) == [FLOAT32, BFLOAT16]
        assert first_candidates(BOTH, {}) == list(CORE)
        theirs = dict.fromkeys(
            ("TF_NUM_INTEROP_THREADS", "TF_NUM_INTRAOP_THREADS", "NANO_INIT_DISABLE", "LD_PRELOAD"),
            "1",
        )
        assert list(neighbours(FLOAT32, 4, ("jemalloc",), theirs)) == []

    def test_neighbours_differ_in_one_choice(self) -> None:
        found = list(neighbours(BFLOAT16_XLA, 4, ("jemalloc", "tcmalloc"), {}))
        for each in found:
            ours, theirs = each.values(), BFLOAT16_XLA.values()
            assert sum(ours[name] != theirs[name] for name in ours) == 1
        assert len(set(found)) == 5

    def test_one_core_has_no_threads_to_vary(self) -> None:
        assert list(neighbours(FLOAT32, 1, (), {})) == [Configuration(disable=True)]

    def test_its_variables_replace_the_plans_and_never_the_users(self) -> None:
        plan = Plan(
            ThreadCount(4, ""),
            PrecisionChoice("float32", ""),
            (
                Setting("TF_NUM_INTEROP_THREADS", "4", ""),
                Setting("TF_NUM_INTRAOP_THREADS", "3", "yours", "kept"),
            ),
        )
        chosen = Configuration(xla=True, disable=True, threads=2, interop=1)
        theirs = {"TF_NUM_INTRAOP_THREADS": "3"}
        assert with_configuration(plan, chosen, theirs).environment() == {
            "TF_NUM_INTEROP_THREADS": "1",
            "TF_XLA_FLAGS": FUSIBLE,
            "NANO_INIT_DISABLE": "all",
        }

    def test_options_keep_what_is_not_chosen(self) -> None:
        given = Options(threads=3, pin=True)
        taken = Configuration("mixed_bfloat16", allocator="jemalloc").options(given)
        assert (taken.threads, taken.pin) == (3, True)
        assert (taken.precision, taken.allocator) == ("mixed_bfloat16", "jemalloc")

    @given(
        st.builds(
            Configuration,
            precision=st.sampled_from(BOTH),
            xla=st.booleans(),
            disable=st.booleans(),
            threads=st.integers(0, 8192),
            interop=st.integers(0, 8192),
            allocator=st.sampled_from(["none", "jemalloc", "tcmalloc"]),
        )
    )
    def test_values_are_parsed_back(self, configuration: Configuration) -> None:
        assert parse_configuration(configuration.values()) == configuration

    @pytest.mark.parametrize(
        "wrong",
        [
            None,
            [],
            {},
            {**FLOAT32.values(), "more": 1},
            {**FLOAT32.values(), "precision": "int8"},
            {**FLOAT32.values(), "threads": "4"},
            {**FLOAT32.values(), "threads": True},
            {**FLOAT32.values(), "threads": -1},
            {**FLOAT32.values(), "allocator": "/tmp/evil.so"},
            {**FLOAT32.values(), "precision": ["float32"]},
        ],
    )
    def test_anything_else_is_none(self, wrong: Any) -> None:
        assert parse_configuration(wrong) is None
