"""The search finds the fastest sound configuration within its budget, never an unsound one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init.errors import LateSampleError, MemorySampleError, SampleError, ScriptError
from nano_init.evidence.tuning.clock import Clock
from nano_init.evidence.tuning.search import Found, search
from nano_init.evidence.tuning.search_space import PATH_GROUPS, Choices, first_candidates
from nano_init.plan.configuration import Configuration
from nano_init.protocol.faster_paths import PATH_RECORDS

FLOAT32, BFLOAT16 = Configuration(), Configuration("mixed_bfloat16")
FLOAT32_XLA, BFLOAT16_XLA = Configuration(xla=True), Configuration("mixed_bfloat16", xla=True)
CORE = (FLOAT32, BFLOAT16, FLOAT32_XLA, BFLOAT16_XLA)
BOTH = ("float32", "mixed_bfloat16")


@dataclass
class World:
    """A script with known step times and losses, and a clock that its trainings advance.

    `drift` is the slowdown of the machine per slice; `length` is the script's length in slices.
    """

    times: dict[Configuration, float]
    losses: dict[Configuration, float] = field(default_factory=dict)
    broken: tuple[Configuration, ...] = ()
    failure: SampleError = field(default_factory=lambda: ScriptError("the script failed"))
    seconds: float = 3.0
    noise: float = 0.1
    drift: float = 1.0
    length: int = 1000
    places: int = 12
    slice: float = 0.1
    end: SampleError = field(default_factory=lambda: SampleError("the script's training has ended"))
    now: float = 0.0
    speed: float = 1.0
    started: list[tuple[Configuration, int]] = field(default_factory=list)
    running: int = 0

    def start(self, wanted: Sequence[tuple[Configuration, int]]) -> list[Any]:
        self.now += self.seconds * len(wanted)
        self.started += wanted
        return [
            self.failure if each in self.broken else Fake(self, each, seed) for each, seed in wanted
        ]

    def room(self) -> int:
        return self.places - self.running

    def find(
        self, budget: float = 1000.0, default: Configuration = BFLOAT16, steps: str = ""
    ) -> Found:
        found = search(
            first_candidates(BOTH, steps, {}),
            default,
            Choices(4, (), steps, {}).beside,
            self,
            Clock(budget, lambda: self.now),
        )
        assert self.running == 0
        return found


class Fake:
    """A training in a world."""

    def __init__(self, world: World, configuration: Configuration, seed: int) -> None:
        self.world, self.configuration = world, configuration
        world.running += 1
        self.loss = world.losses.get(configuration, 2.0) + seed * world.noise
        self.losses = [(step, self.loss) for step in range(1, 6)]
        self.signature = "[[1]]"
        self.left = world.length

    def train(self, seconds: float, patience: float) -> Sequence[float]:
        if not self.left:
            raise self.world.end
        self.left -= 1
        if self.world.slice > seconds + patience:
            self.world.now += seconds + patience
            raise LateSampleError("still running")
        self.world.now += max(seconds, self.world.slice)
        self.world.speed *= self.world.drift
        last = self.losses[-1][0]
        self.losses += [(last + step, self.loss) for step in range(1, 11)]
        return (self.world.times.get(self.configuration, 10.0) * self.world.speed,) * 5

    def close(self) -> None:
        self.world.running -= 1


def test_the_fastest_wins() -> None:
    world = World({FLOAT32: 4.0, BFLOAT16: 3.0, FLOAT32_XLA: 3.5, BFLOAT16_XLA: 2.0})
    found = world.find()
    assert found.winner == BFLOAT16_XLA
    assert found.gain == pytest.approx(1.5)
    assert [trial.configuration for trial in found.trials[:2]] == [BFLOAT16_XLA, BFLOAT16]


def test_models_with_different_measurements_get_different_choices() -> None:
    convolutional = World({FLOAT32: 4.0, BFLOAT16: 2.0, FLOAT32_XLA: 6.0, BFLOAT16_XLA: 5.0})
    recurrent = World({FLOAT32: 4.0, BFLOAT16: 5.0, FLOAT32_XLA: 3.0, BFLOAT16_XLA: 4.5})
    assert convolutional.find().winner == BFLOAT16
    assert recurrent.find().winner == FLOAT32_XLA


@pytest.mark.parametrize("drift", [0.98, 1.02])
def test_drift_of_the_machine_favours_no_configuration(drift: float) -> None:
    """The raw samples would: within a round they drift by a tenth."""
    times = {FLOAT32: 4.0, BFLOAT16: 3.0, FLOAT32_XLA: 3.2, BFLOAT16_XLA: 2.8}
    world = World(times, drift=drift)
    found = world.find()
    assert found.winner == BFLOAT16_XLA
    assert found.gain == pytest.approx(3.0 / 2.8, rel=0.04)


def test_neighbours_of_the_best_are_tried() -> None:
    best = Configuration("mixed_bfloat16", disable="all")
    assert World({FLOAT32: 4.0, BFLOAT16: 3.0, best: 2.0}).find().winner == best


def test_neighbours_of_a_better_neighbour_are_tried_too() -> None:
    beside = Configuration("mixed_bfloat16", interop=1)
    best = Configuration("mixed_bfloat16", interop=1, threads=2)
    world = World({FLOAT32: 4.0, BFLOAT16: 3.0, beside: 2.5, best: 2.0})
    assert world.find().winner == best


def test_paths_are_disabled_by_group_if_together_they_bring_no_gain() -> None:
    bare = Configuration("mixed_bfloat16", disable="all")
    best = Configuration("mixed_bfloat16", disable="gru,lstm")
    times = {FLOAT32: 4.0, BFLOAT16: 3.0, bare: 3.0, best: 2.0}
    assert World(times).find().winner == best
    world = World({**times, bare: 3.5})
    assert world.find().winner == BFLOAT16
    assert all(each.disable in ("", "all") for each, _ in world.started)


def test_each_grouped_path_is_in_exactly_one_group() -> None:
    names = [name for group in PATH_GROUPS for name in group.split(",")]
    assert len(set(names)) == len(names)
    # A path without a group does not change the time of a step.
    assert set(names) == {record.name for record in PATH_RECORDS if record.group}


def test_several_steps_per_execution_are_tried_only_if_the_user_allows_them() -> None:
    several, one = Configuration("mixed_bfloat16", steps="auto"), BFLOAT16
    world = World({several: 3.0, one: 2.0, Configuration(steps="auto"): 4.0})
    assert world.find(default=several, steps="auto").winner == one
    world = World({several: 2.0, one: 3.0, Configuration(steps="auto"): 4.0})
    assert world.find(default=several, steps="auto").winner == several
    world = World({one: 3.0, FLOAT32: 4.0})
    world.find()
    assert not any(each.steps for each, _ in world.started)


@pytest.mark.parametrize("loss", [2.5, 1.5, float("nan"), float("inf")])
def test_a_loss_beyond_the_noise_of_seeds_is_never_chosen(loss: float) -> None:
    wrong = dict.fromkeys(Choices(4, (), "", {}).beside(BFLOAT16, {}), loss)
    world = World({FLOAT32: 4.0, BFLOAT16: 1.0}, {**wrong, BFLOAT16: loss})
    found = world.find()
    assert found.winner == FLOAT32
    assert [t.is_sound for t in found.trials if t.configuration == BFLOAT16] == [False]
    assert found.objection == "its loss differs from float32's"


def test_a_loss_within_the_noise_of_seeds_is_sound() -> None:
    assert World({FLOAT32: 4.0, BFLOAT16: 1.0}, {BFLOAT16: 2.15}).find().winner == BFLOAT16


def test_without_noise_only_rounding_differences_are_sound() -> None:
    for loss, winner in ((2.001, BFLOAT16), (2.01, FLOAT32)):
        world = World({FLOAT32: 4.0, BFLOAT16: 1.0}, {BFLOAT16: loss}, noise=0.0)
        assert world.find().winner == winner


@pytest.mark.parametrize("default", [BFLOAT16, FLOAT32])
def test_a_configuration_that_crashes_is_excluded_with_its_reason(default: Configuration) -> None:
    world = World({FLOAT32: 4.0, BFLOAT16: 1.0}, broken=(BFLOAT16,))
    found = world.find(default=default)
    assert found.winner == FLOAT32
    (trial,) = (trial for trial in found.trials if trial.configuration == BFLOAT16)
    assert trial.fault == "the script failed"


@pytest.mark.parametrize(("losses", "winner"), [({}, BFLOAT16), ({BFLOAT16: 3.0}, FLOAT32)])
def test_a_configuration_measured_in_only_one_round_is_not_chosen(
    losses: dict[Configuration, float], winner: Configuration
) -> None:
    """A disturbance of the default's slice in that round would be stored as a gain."""

    class Slowing(Fake):
        def train(self, seconds: float, patience: float) -> Sequence[float]:
            times = super().train(seconds, patience)
            self.world.now += 1000.0 if self.configuration == FLOAT32_XLA else 0.0
            return times

    class SlowingWorld(World):
        def start(self, wanted: Sequence[tuple[Configuration, int]]) -> list[Any]:
            self.now += self.seconds * len(wanted)
            return [Slowing(self, *each) for each in wanted]

    times = {FLOAT32: 4.0, BFLOAT16: 4.0, FLOAT32_XLA: 1.0}
    found = SlowingWorld(times, losses).find(100.0)
    assert [trial.rounds for trial in found.trials if trial.configuration == FLOAT32_XLA] == [1]
    assert found.winner == winner
    assert found.gain == 1.0


def test_a_script_that_cannot_be_sampled_in_float32_is_not_tuned() -> None:
    with pytest.raises(SampleError, match="the script failed"):
        World({}, broken=(FLOAT32,)).find()


def test_an_unnoticeable_gain_does_not_change_the_choice() -> None:
    assert World({FLOAT32: 4.0, BFLOAT16: 3.0, BFLOAT16_XLA: 2.95}).find().winner == BFLOAT16


def test_a_short_script_starts_again_for_each_round() -> None:
    world = World({FLOAT32: 4.0, BFLOAT16: 3.0, BFLOAT16_XLA: 2.0}, length=1)
    found = world.find()
    assert found.winner == BFLOAT16_XLA
    assert max(trial.rounds for trial in found.trials) > 1


def test_a_script_that_ends_before_a_slice_is_not_tuned() -> None:
    with pytest.raises(SampleError, match="training has ended"):
        World({FLOAT32: 4.0, BFLOAT16: 3.0}, length=0).find()


def test_no_more_trainings_run_at_a_time_than_there_is_room_for() -> None:
    world = World({FLOAT32: 4.0, BFLOAT16: 3.0, BFLOAT16_XLA: 2.0}, places=3)
    most = 0
    start = world.start

    def counted(wanted: Sequence[tuple[Configuration, int]]) -> list[Any]:
        nonlocal most
        outcomes = start(wanted)
        most = max(most, world.running)
        return outcomes

    world.start = counted  # type: ignore[method-assign]
    assert world.find().winner == BFLOAT16_XLA
    # One more than there is room for, or a search could not proceed.
    assert most <= 4


TIMES = st.floats(0.1, 10)


@given(
    st.tuples(TIMES, TIMES, TIMES, TIMES),
    st.floats(30, 200),
    st.sets(st.sampled_from(CORE[1:])),
    st.integers(1, 12),
)
def test_the_search_keeps_its_budget_and_the_choice_is_sound(
    times: tuple[float, ...], budget: float, wrong: set[Configuration], places: int
) -> None:
    world = World(dict(zip(CORE, times, strict=True)), dict.fromkeys(wrong, 3.0), places=places)
    found = world.find(budget)
    assert world.now <= budget
    assert found.winner not in wrong
    assert found.gain >= 1
    tried = {trial.configuration for trial in found.trials if trial.rounds >= 3}
    sound = [t for c, t in world.times.items() if c not in wrong and c in tried]
    assert world.times.get(found.winner, 10.0) <= min(sound) * 1.031


@pytest.mark.parametrize("budget", [4.0, 8.0, 12.2])
def test_without_time_to_compare_nothing_is_chosen(budget: float) -> None:
    """The default is run: a measurement of float32 alone is no evidence against it."""
    with pytest.raises(SampleError, match="raise --tune-budget"):
        World({FLOAT32: 4.0, BFLOAT16: 1.0}).find(budget)


class TestFailureOfTheDefault:
    """A failure that float32 does not have is a reason for float32 if nothing was measured."""

    def cause(self, budget: float, **more: Any) -> BaseException | None:
        with pytest.raises(SampleError) as caught:
            World({}, **more).find(budget)
        return caught.value.__cause__

    def test_it_is_passed_on_if_the_time_is_too_short(self) -> None:
        failure = ScriptError("the script failed before its first step: no")
        assert self.cause(8.0, broken=(BFLOAT16,), failure=failure) is failure

    def test_after_a_failure_past_the_first_steps_others_are_compared_with_float32(
        self,
    ) -> None:
        failure = ScriptError("the script failed after 8 steps: no")

        class Failing(Fake):
            def train(self, seconds: float, patience: float) -> Sequence[float]:
                if self.configuration == BFLOAT16:
                    raise failure
                return super().train(seconds, patience)

        class FailingWorld(World):
            def start(self, wanted: Sequence[tuple[Configuration, int]]) -> list[Any]:
                self.now += self.seconds * len(wanted)
                return [Failing(self, *each) for each in wanted]

        world = FailingWorld({FLOAT32: 4.0, FLOAT32_XLA: 2.0})
        assert world.find(100.0).winner == FLOAT32_XLA

    def test_it_is_not_passed_on_if_float32_fails_too(self) -> None:
        assert self.cause(100.0, broken=(BFLOAT16, FLOAT32)) is None

    @pytest.mark.parametrize("failure", [LateSampleError("late"), SampleError("not permitted")])
    def test_an_error_that_is_not_the_scripts_is_not_passed_on(self, failure: SampleError) -> None:
        assert self.cause(8.0, broken=(BFLOAT16,), failure=failure) is None

    def test_a_default_that_runs_out_of_memory_is_not_replaced(self) -> None:
        """Concurrent trainings need more memory than the run, and the choice would be stored."""
        failure = MemorySampleError("the script was ended by SIGKILL")
        world = World({FLOAT32: 4.0}, broken=(BFLOAT16,), failure=failure)
        with pytest.raises(SampleError, match="in mixed_bfloat16 the script was ended by") as error:
            world.find(100.0)
        assert error.value.__cause__ is None
        assert world.running == 0

    def test_a_script_that_ends_early_has_not_failed(self) -> None:
        assert self.cause(100.0, length=0) is None


@pytest.mark.parametrize(("budget", "most"), [(5.0, 10.0), (8.0, 10.0), (20.0, 20.0)])
@pytest.mark.parametrize("slice_seconds", [0.1, 4.0, 30.0])
def test_the_preparation_of_the_search_is_bounded_in_time_too(
    budget: float, most: float, slice_seconds: float
) -> None:
    """However small the budget, float32 has ten seconds for its first steps."""
    world = World({}, seconds=2.0, slice=slice_seconds)
    with suppress(SampleError):
        world.find(budget)
    assert world.now <= most


def test_patience_lasts_for_the_budget_and_at_least_ten_seconds() -> None:
    for budget, most in ((5.0, 10.0), (60.0, 60.0)):
        clock = Clock(budget, iter((0.0, 0.0, 4.0, most + 1)).__next__)
        assert [clock.patience() for _ in range(3)] == [most, most - 4, 0.0]


def test_a_late_start_is_reported_with_a_remedy() -> None:
    world = World({}, broken=(FLOAT32, BFLOAT16), failure=LateSampleError("still running"))
    with pytest.raises(SampleError, match="still running; raise --tune-budget"):
        world.find(5.0)
