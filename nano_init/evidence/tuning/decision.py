"""What follows from measured trials: the fastest sound one, or the simpler of equals. Pure."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from nano_init.plan.configuration import parse_configuration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from nano_init.plan.configuration import Configuration

__all__ = ["Trial", "choose", "is_faithful", "parse_trial", "trial_to_json"]

# A difference that a search in a minute cannot tell from chance, and no user would notice.
_TIE = 1.03

# What would be run without tuning is left only for something this much faster.
_LEAST_GAIN = 1.03

# Sums in another order differ by as much, relative to the loss, after a few steps.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Trial:
    """What was measured of one configuration.

    Args:
        configuration: what was trained in.
        runs: its step times over the default's of the same rounds, one series for each process
            that it was measured in.
        step_seconds: its step time, the median of the rounds.
        is_sound: whether its loss is float32's.
        fault: why it could not be measured; "" if it was.
    """

    configuration: Configuration
    runs: tuple[tuple[float, ...], ...] = ()
    step_seconds: float = math.nan
    is_sound: bool = True
    fault: str = ""

    @property
    def ratio(self) -> float:
        """Return its step time over the default's: medians of runs, averaged; inf without."""
        logs = [math.log(statistics.median(run)) for run in self.runs if run]
        return math.exp(statistics.fmean(logs)) if logs else math.inf

    @property
    def rounds(self) -> int:
        """Return how many rounds it was measured in."""
        return sum(map(len, self.runs))


def choose(trials: Sequence[Trial], default: Configuration) -> Trial:
    """Return the trial to train with.

    Args:
        trials: all of them, the default's among them.
        default: what would be run without tuning.

    Raises:
        ValueError: none of them is sound.
    """
    sound = [trial for trial in trials if trial.is_sound and math.isfinite(trial.ratio)]
    if not sound:
        raise ValueError("no trial is sound")
    # Those that reached the last run were compared longest; what was
    # measured in fewer had been behind.
    last = [trial for trial in sound if len(trial.runs) == max(len(t.runs) for t in sound)]
    best = min(last, key=lambda trial: trial.ratio)
    before = next((trial for trial in sound if trial.configuration == default), None)
    if before is not None and before.ratio < _LEAST_GAIN * best.ratio:
        return before
    equals = [trial for trial in last if trial.ratio <= _TIE * best.ratio]
    return min(equals, key=lambda trial: (trial.configuration.distance(default), trial.ratio))


def is_faithful(
    losses: Sequence[tuple[int, float]], references: Sequence[Sequence[tuple[int, float]]]
) -> bool:
    """Say whether losses are float32's but for chance.

    Args:
        losses: of another configuration, from the seed of the first reference: the number of a
            step, and its loss.
        references: of float32, one series a seed.

    Returns:
        Whether they depart from the first reference by no more than the references differ by.
        False where that cannot be known: a loss is missing or not finite.
    """
    if not references or not all((losses, *references)):
        return False
    span = min(series[-1][0] for series in (losses, *references))
    ours, *theirs = (_late_loss(series, span) for series in (losses, *references))
    if not all(map(math.isfinite, (ours, *theirs))):
        return False
    noise = max(theirs) - min(theirs)
    return abs(ours - theirs[0]) <= max(noise, _ROUNDING * abs(theirs[0]))


def _late_loss(losses: Sequence[tuple[int, float]], span: int) -> float:
    """Return the mean loss of the last quarter of the first steps."""
    late = [loss for step, loss in losses if 0.75 * span < step <= span]
    return statistics.fmean(late) if late else math.nan


def trial_to_json(trial: Trial) -> dict[str, Any]:
    """Return a trial as plain values."""
    return {
        "configuration": trial.configuration.values(),
        "runs": [list(run) for run in trial.runs],
        "step_seconds": trial.step_seconds if math.isfinite(trial.step_seconds) else None,
        "is_sound": trial.is_sound,
        "fault": trial.fault,
    }


def parse_trial(values: Any) -> Trial:
    """Return the trial of plain values, as `trial_to_json` gives them.

    Raises:
        ValueError: they are not a trial's.
    """
    configuration = parse_configuration(values.get("configuration"))
    if configuration is None:
        raise ValueError(f"{values.get('configuration')!r} is not a valid configuration")
    seconds = values["step_seconds"]
    return Trial(
        configuration,
        tuple(tuple(map(float, run)) for run in values["runs"]),
        math.nan if seconds is None else float(seconds),
        bool(values["is_sound"]),
        str(values["fault"]),
    )
