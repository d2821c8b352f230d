"""Find the fastest configuration whose loss is float32's: successive halving in rounds. Pure.

All trainings of a group are started once and then take turns, a slice of a second each: a
round. What counts is the ratio to the default's slice of the same round, so that a machine whose
speed drifts slows both; the median of the rounds leaves out what disturbed one of them. After each
round those that are clearly behind end. First the configurations that differ most are
tried, then those next to the best of them, as long as that finds a better one; the last two or
three start once more, for some processes are faster than others of the same configuration.
"""

from __future__ import annotations

import math
import statistics
from contextlib import suppress
from dataclasses import dataclass

from nano_init.errors import SampleError, ScriptError
from nano_init.evidence.sampling.sample import undisturbed
from nano_init.evidence.tuning.candidate import Candidate
from nano_init.evidence.tuning.decision import Trial, choose, is_faithful

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Protocol

    from nano_init.evidence.tuning.candidate import Training
    from nano_init.evidence.tuning.clock import Clock
    from nano_init.plan.configuration import Configuration

    class TrialRunner(Protocol):
        """Where trainings run."""

        def start(
            self, wanted: Sequence[tuple[Configuration, int]]
        ) -> Sequence[Training | SampleError]:
            """Start configurations, each from a seed, side by side."""

        def room(self) -> int:
            """Return how many more can be there."""


__all__ = ["SEEDS", "Found", "search"]

# float32 is trained from as many seeds, to see how far losses differ by chance.
SEEDS = 3

_ROUNDS = 3
_FINAL_ROUNDS, _LEAST_FINAL_ROUNDS = 10, 5
_FINALISTS = 3

# After as many rounds, what is slower than the best by such a factor ends.
_BEHIND = {1: 1.5, 2: 1.2, 3: 1.08}
_FINAL = 1.06

# What is as near to the best has neighbours that may be better still.
_NEAR = 1.1

# Losses that every series has by then, or the last of them say nothing.
_LEAST_LOSSES = 20
_MOST_SLICES = 5

# How much longer than a slice its least steps may take, in seconds.
_SLICE_PATIENCE = 60.0

_DEPARTS = "its loss differs from float32's"
_UNKNOWN = "its loss could not be compared with float32's"

_TOO_SHORT = (
    f"time ran out before float32 with {SEEDS} seeds and the default were measured; raise "
    "--tune-budget"
)


@dataclass(frozen=True)
class Found:
    """What a search has found.

    Args:
        winner: the configuration to train with.
        trials: all that was tried, fastest first, failed ones last.
        gain: how many times as fast as the default a step is.
        objection: what is wrong with trials that are not sound.
        signature: the shapes of the trained variables.
    """

    winner: Configuration
    trials: tuple[Trial, ...]
    gain: float
    objection: str
    signature: str


def search(
    candidates: Sequence[Configuration],
    default: Configuration,
    neighbours: Callable[[Configuration, Mapping[Configuration, float]], Iterable[Configuration]],
    runner: TrialRunner,
    clock: Clock,
) -> Found:
    """Return the fastest configuration that trains as float32 does.

    Args:
        candidates: what to try first; the first of them is float32, which others' losses are
            compared with.
        default: what would be run without tuning.
        neighbours: gives the configurations next to one, given what was measured so far as step
            times over the default's.
        runner: where trainings run.
        clock: the time that there is.

    Raises:
        SampleError: float32 itself cannot be trained, or the time is too short to compare. Its
            cause is the default's own failure where that is what float32 has not.
    """
    progress = _Search(candidates[0], default, runner, clock)
    try:
        progress.begin()
        progress.compete(candidates, keep=0)
        explored: set[Configuration] = set()
        while (base := progress.next_base(explored)) is not None:
            explored.add(base)
            progress.compete(neighbours(base, progress.ratios()), keep=_FINALISTS + 1)
        progress.finish()
        return progress.found()
    except SampleError as error:
        raise SampleError(str(error)) from progress.default_failure()
    finally:
        progress.close()


class _Search:
    """All that has been started so far."""

    def __init__(
        self, reference: Configuration, default: Configuration, runner: TrialRunner, clock: Clock
    ) -> None:
        self.of: dict[Configuration, Candidate] = {}
        self._seeds: list[list[tuple[int, float]]] = []
        self._reference, self._default, self._pivot = reference, default, default
        self._runner, self._clock = runner, clock
        self._is_backwards = False

    def begin(self) -> None:
        """Start float32, from each seed, and the default, which the others are compared with."""
        self._enter(list(dict.fromkeys((self._reference, self._default))))
        reference = self.of[self._reference]
        if reference.training is None:
            more = "; raise --tune-budget" if reference.is_late else ""
            raise SampleError(f"{reference.fault}{more}")
        default = self.of[self._default]
        if default.is_short_of_memory:  # nothing else may be chosen for that, and remembered
            raise SampleError(f"in {self._default} {default.fault}")
        if default.training is None:
            self._pivot = self._reference
        self._train_for_losses(reference.training)
        self._read_seeds()
        self._run_first_rounds()
        if self._base().failure:  # it fails later than at its first steps
            self._pivot = self._reference
            self._run_first_rounds()
        for candidate in (reference, self._base()):
            if not candidate.times:
                raise SampleError(candidate.fault or _TOO_SHORT)

    def compete(self, configurations: Iterable[Configuration], *, keep: int) -> None:
        """Start those that are new, as many at a time as there is room for, and run rounds.

        Args:
            configurations: what to try.
            keep: for how many there is to be time left at the end, for the rounds of a final.
        """
        left = [configuration for configuration in configurations if configuration not in self.of]
        while left:
            number = min(len(left), max(1, self._runner.room()))
            while number and not self._clock.fits(
                number, _ROUNDS * (number + len(self._running())) + _LEAST_FINAL_ROUNDS * keep
            ):
                number -= 1
            if not number:
                return
            self._enter(left[:number])
            del left[:number]
            self._run_rounds(_ROUNDS)

    def next_base(self, explored: set[Configuration]) -> Configuration | None:
        """Return the fastest whose neighbours were not tried yet, if it is near the best."""
        ranked = self._ranked()
        for candidate in ranked:
            if self._ratio(candidate) > _NEAR * self._ratio(ranked[0]):
                return None
            if candidate.configuration not in explored:
                return candidate.configuration
        return None

    def default_failure(self) -> ScriptError | None:
        """Return the error that the script has in the default, and has not in float32."""
        default, reference = self.of.get(self._default), self.of.get(self._reference)
        if default is None or reference is None or reference.failure:
            return None
        return default.failure

    def ratios(self) -> dict[Configuration, float]:
        """Return step times over the default's, of all that were measured."""
        return {each.configuration: self._ratio(each) for each in self.of.values() if each.times}

    def finish(self) -> None:
        """Hold the best against each other, in new processes if there is time for them."""
        ranked = self._ranked()
        near = [e for e in ranked if self._ratio(e) <= _FINAL * self._ratio(ranked[0])]
        final = list(dict.fromkeys(e.configuration for e in (*near[:_FINALISTS], self._base())))
        if len(final) == 1:
            return
        for candidate in self.of.values():
            if candidate.configuration not in final:
                candidate.stop()
        if self._clock.fits(len(final), _LEAST_FINAL_ROUNDS * len(final)):
            for configuration in final:
                self.of[configuration].stop()
            self._enter(final)
        self._run_rounds(_FINAL_ROUNDS, is_final=True)

    def close(self) -> None:
        """End all trainings."""
        for candidate in self.of.values():
            candidate.stop()

    def found(self) -> Found:
        """Return what follows from all that was measured."""
        trials = sorted((self._trial(each) for each in self.of.values()), key=lambda t: t.ratio)
        winner = choose([t for t in trials if self._is_settled(t)], self._default)
        sound = {trial.configuration: trial for trial in trials if trial.is_sound and trial.runs}
        before = sound.get(self._default) or sound[self._reference]
        has_losses = len(self._seeds) == SEEDS - 1 and all(self._seeds)
        return Found(
            winner.configuration,
            tuple(trials),
            before.ratio / winner.ratio,
            _DEPARTS if has_losses else _UNKNOWN,
            self.of[self._reference].signature,
        )

    def _is_settled(self, trial: Trial) -> bool:
        """Say whether its rounds are enough to be chosen by: one of them may be disturbed."""
        base = self._base()
        fallback = base.configuration if self._is_sound(base) else self._reference
        return trial.configuration == fallback or trial.rounds >= _ROUNDS

    def _enter(self, configurations: Sequence[Configuration]) -> None:
        outcomes = self._start([(configuration, 0) for configuration in configurations])
        for configuration, outcome in zip(configurations, outcomes, strict=True):
            self.of.setdefault(configuration, Candidate(configuration)).start(outcome)

    def _start(
        self, wanted: Sequence[tuple[Configuration, int]]
    ) -> Sequence[Training | SampleError]:
        with self._clock.starting(len(wanted)):
            return self._runner.start(wanted)

    def _read_seeds(self) -> None:
        """Train float32 from the other seeds, side by side if there is room."""
        left = [(self._reference, seed) for seed in range(1, SEEDS)]
        while left:
            group = left[: max(1, self._runner.room())]
            del left[: len(group)]
            if not self._clock.fits(len(group), 0):
                raise SampleError(_TOO_SHORT)
            for training in self._start(group):
                # Without one of them nothing else can be compared with float32.
                if not isinstance(training, SampleError):
                    self._train_for_losses(training)
                    self._seeds.append(list(training.losses))
                    training.close()

    def _run_first_rounds(self) -> None:
        if not self._clock.fits(0, 2 * len(self._running())):
            raise SampleError(_TOO_SHORT)
        for _ in range(2):
            self._run_round(self._running())

    def _run_rounds(self, number: int, *, is_final: bool = False) -> None:
        for done in range(1, number + 1):
            running = self._running()
            if len(running) < 2 or not self._clock.fits(0, len(running)):
                return
            self._run_round(running)
            if not is_final:
                self._drop(_BEHIND.get(done, _FINAL))

    def _run_round(self, running: list[Candidate]) -> None:
        """Let each train for a slice, in the opposite order every other time."""
        times: dict[Configuration, float] = {}
        for candidate in running[::-1] if self._is_backwards else running:
            seconds = self._slice(candidate)
            if seconds is not None:
                times[candidate.configuration] = seconds
        self._is_backwards = not self._is_backwards
        base = times.get(self._pivot)
        if base is None:  # nothing to hold the others against
            return
        for configuration, seconds in times.items():
            self.of[configuration].note(seconds, seconds / base)

    def _slice(self, candidate: Candidate) -> float | None:
        """Return the step time of a slice; a script that has ended starts once more."""
        for is_again in (False, True):
            training = candidate.training
            if training is None:
                return None
            try:
                with self._clock.slicing():
                    return undisturbed(training.train(self._clock.slice_seconds, _SLICE_PATIENCE))
            except SampleError as error:
                candidate.stop()
                if is_again:
                    candidate.start(error)
                elif self._clock.fits(1, 1):
                    candidate.start(
                        self._start([(candidate.configuration, 0)])[0], is_new_run=False
                    )
                elif isinstance(error, ScriptError):
                    candidate.start(error)
        return None

    def _train_for_losses(self, training: Training) -> None:
        """Let a training make enough steps to compare losses."""
        with suppress(SampleError):  # it has ended: what there is must do
            for _ in range(_MOST_SLICES):
                if training.losses and training.losses[-1][0] >= _LEAST_LOSSES:
                    return
                with self._clock.slicing():
                    training.train(0.0, min(_SLICE_PATIENCE, self._clock.patience()))

    def _drop(self, factor: float) -> None:
        ranked = self._ranked()
        for candidate in self._running():
            is_kept = candidate in (ranked[0], self._base())
            if not is_kept and self._ratio(candidate) > factor * self._ratio(ranked[0]):
                candidate.stop()

    def _base(self) -> Candidate:
        return self.of[self._pivot]

    def _running(self) -> list[Candidate]:
        return [candidate for candidate in self.of.values() if candidate.training is not None]

    def _ranked(self) -> list[Candidate]:
        """Return those that are sound, fastest first; float32 itself always is."""
        sound = [e for e in self.of.values() if e.times and not e.fault and self._is_sound(e)]
        return sorted(sound, key=self._ratio)

    def _is_sound(self, candidate: Candidate) -> bool:
        if candidate.configuration == self._reference:
            return True
        references = [self.of[self._reference].seen_losses(), *self._seeds]
        return len(references) == SEEDS and is_faithful(candidate.seen_losses(), references)

    def _ratio(self, candidate: Candidate) -> float:
        return self._trial(candidate).ratio

    def _trial(self, candidate: Candidate) -> Trial:
        return Trial(
            candidate.configuration,
            tuple(tuple(run) for run in candidate.runs if run),
            statistics.median(candidate.times) if candidate.times else math.nan,
            self._is_sound(candidate),
            candidate.fault,
        )
