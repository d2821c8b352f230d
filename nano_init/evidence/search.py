"""Find the fastest configuration whose loss is float32's: successive halving on samples. Pure.

The configurations that differ most are sampled first, then those beside the best of them; the
best two are sampled again in turn, against chance. Each sample is bounded by the best so far:
one that is far behind after a few steps ends there.
"""

from __future__ import annotations

import math
import statistics
from contextlib import suppress
from dataclasses import dataclass, field

from nano_init.errors import SampleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nano_init.evidence.configuration import Configuration
    from nano_init.evidence.sample import Sample

__all__ = ["SEEDS", "Clock", "Found", "Trial", "is_faithful", "search"]

# float32 is sampled from as many seeds, to see how far losses differ by chance.
SEEDS = 3

# A configuration has to be as much faster than what would be run without tuning.
_LEAST_GAIN = 1.03

# A sample ends early when its fastest step is this much slower than the best step time.
_BEHIND = 1.5

# Sums in another order differ by as much, relative to the loss, after a few steps.
_ROUNDING = 1e-3

_FINAL_ROUNDS = 2

_TOO_SHORT = (
    f"the time was too short: {SEEDS} samples of float32 and one of the default are the least; "
    "raise --tune-budget"
)


@dataclass
class Trial:
    """The samples of one configuration.

    Args:
        configuration: what was sampled.
        samples: those from seed 0.
        fault: why it could not be sampled; "" if it could.
    """

    configuration: Configuration
    samples: list[Sample] = field(default_factory=list)
    fault: str = ""

    @property
    def step_time(self) -> float:
        """Return the least disturbed step time of all samples, in seconds."""
        return min(sample.undisturbed_step_time for sample in self.samples)


@dataclass(frozen=True)
class Found:
    """What a search has found.

    Args:
        winner: the configuration to train with.
        trials: all that was tried, fastest first, failed ones last.
        gain: how many times as fast as the default a step is.
        rejected: configurations that were faster, and whose loss is not known to be float32's.
        objection: why not.
        signature: the shapes of the trained variables.
    """

    winner: Configuration
    trials: tuple[Trial, ...]
    gain: float
    rejected: tuple[Configuration, ...]
    objection: str
    signature: str


class Clock:
    """The time that a search may take, told by the time its samples take.

    Args:
        budget: seconds.
        now: tells the time in seconds.
    """

    def __init__(self, budget: float, now: Callable[[], float]) -> None:
        self._now, self._start, self._budget = now, now(), budget
        self._longest = 0.0

    def left(self) -> float:
        """Return the seconds that are left."""
        return self._budget - (self._now() - self._start)

    def fits(self, samples: int) -> bool:
        """Say whether as many samples, each as long as the longest so far, fit in."""
        return self.left() >= samples * self._longest

    def timed(self, take: Callable[[], Sample]) -> Sample:
        """Take a sample and remember how long that took."""
        start = self._now()
        try:
            return take()
        finally:
            self._longest = max(self._longest, self._now() - start)


def search(
    candidates: Sequence[Configuration],
    default: Configuration,
    neighbours: Callable[[Configuration], Iterable[Configuration]],
    take: Callable[[Configuration, int, float | None], Sample],
    clock: Clock,
) -> Found:
    """Return the fastest configuration that trains as float32 does.

    Args:
        candidates: what to try first; the first of them is float32, which others' losses are
            held against.
        default: what would be run without tuning.
        neighbours: gives the configurations beside one.
        take: takes a sample of a configuration, from a seed, and ends it early where its
            fastest step is slower than a bound in seconds.
        clock: the time that there is.

    Raises:
        SampleError: float32 itself cannot be sampled, or the time is too short to compare.
    """
    trials = _Trials(candidates[0], take, clock)
    trials.sample(trials.reference)
    if trials.of[trials.reference].fault:
        raise SampleError(trials.of[trials.reference].fault)
    # What would be run anyway comes before what may be better.
    for configuration in sorted(candidates[1:], key=lambda candidate: candidate != default):
        trials.sample_if_time(configuration, keep=SEEDS - 1)
    if default not in trials.of:
        raise SampleError(_TOO_SHORT)
    # Kept beside the seeds: time for the best two once more.
    for configuration in neighbours(trials.ranked()[0].configuration):
        trials.sample_if_time(configuration, keep=SEEDS - 1 + 2)
    trials.sample_seeds()
    if len(trials.seeds) < SEEDS:
        raise SampleError(_TOO_SHORT)
    for _ in range(_FINAL_ROUNDS):
        for trial in trials.ranked()[:2]:
            trials.sample_if_time(trial.configuration)
    return _decide(trials, default)


class _Trials:
    """All that has been sampled so far."""

    def __init__(
        self,
        reference: Configuration,
        take: Callable[[Configuration, int, float | None], Sample],
        clock: Clock,
    ) -> None:
        self.reference = reference
        self.of: dict[Configuration, Trial] = {}
        self.seeds: list[Sample] = []
        self._take, self._clock = take, clock

    def sample(self, configuration: Configuration) -> None:
        """Take a sample of a configuration, bounded by the best that is known."""
        trial = self.of.setdefault(configuration, Trial(configuration))
        bound = None
        if self.ranked() and configuration != self.reference:
            bound = self.ranked()[0].step_time * _BEHIND
        try:
            trial.samples.append(self._clock.timed(lambda: self._take(configuration, 0, bound)))
        except SampleError as error:
            # float32 was sampled once, and one process that failed since takes nothing from that.
            if configuration != self.reference or not trial.samples:
                trial.fault = str(error)

    def sample_if_time(self, configuration: Configuration, keep: int = 0) -> None:
        """Take a sample if it fits, and as many after it as are to be kept time for."""
        if self._clock.fits(1 + keep):
            self.sample(configuration)

    def sample_seeds(self) -> None:
        """Sample float32 from other seeds, to see how far losses differ by chance."""
        self.seeds = [self.of[self.reference].samples[0]]
        for seed in range(1, SEEDS):
            if self._clock.fits(1):
                with suppress(SampleError):  # then nothing else can be held against it
                    self.seeds.append(self._sample_seed(seed))

    def ranked(self) -> list[Trial]:
        """Return those that could be sampled, fastest first."""
        sound = [trial for trial in self.of.values() if trial.samples and not trial.fault]
        return sorted(sound, key=lambda trial: trial.step_time)

    def _sample_seed(self, seed: int) -> Sample:
        return self._clock.timed(lambda: self._take(self.reference, seed, None))


def is_faithful(sample: Sample, references: Sequence[Sample]) -> bool:
    """Say whether a sample's loss is float32's but for chance.

    Args:
        sample: of another configuration, from the seed of the first reference.
        references: of float32, one a seed.

    Returns:
        Whether it departs from the first reference by no more than the references differ by.
        False where that cannot be known: a loss is missing or not finite, or there are fewer
        references than SEEDS.
    """
    steps = min(len(each.losses) for each in (sample, *references))
    if len(references) < SEEDS or not steps:
        return False
    ours, *theirs = (_late_loss(each, steps) for each in (sample, *references))
    if not all(map(math.isfinite, (ours, *theirs))):
        return False
    noise = max(theirs) - min(theirs)
    return abs(ours - theirs[0]) <= max(noise, _ROUNDING * abs(theirs[0]))


def _late_loss(sample: Sample, steps: int) -> float:
    """Return the mean loss of the last quarter of the first steps."""
    return statistics.fmean(sample.losses[steps - max(1, steps // 4) : steps])


def _decide(trials: _Trials, default: Configuration) -> Found:
    sound: list[Trial] = []
    rejected: list[Configuration] = []
    for trial in trials.ranked():
        if trial.configuration == trials.reference or all(
            is_faithful(sample, trials.seeds) for sample in trial.samples
        ):
            sound.append(trial)
        elif not sound:
            rejected.append(trial.configuration)
    # float32 itself is always sound, so that there is one.
    winner = sound[0]
    reference = trials.of[trials.reference]
    before = next((trial for trial in sound if trial.configuration == default), reference)
    if before.step_time < _LEAST_GAIN * winner.step_time:
        winner = before
    failed = [trial for trial in trials.of.values() if trial.fault]
    return Found(
        winner.configuration,
        (*trials.ranked(), *failed),
        before.step_time / winner.step_time,
        tuple(rejected),
        _objection(trials.seeds),
        reference.samples[0].signature,
    )


def _objection(references: Sequence[Sample]) -> str:
    if not all(each.losses for each in references):
        return "no loss was seen to hold against float32's"
    return "its loss departs from float32's"
