"""Plain `python` against `nano-run`: samples of both in turn, and what they show."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from nano_init.evidence.sampling.differences import compare_rounds
from nano_init.text import align

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from nano_init.evidence.sampling.differences import Difference
    from nano_init.evidence.sampling.sample import Sample

__all__ = ["Comparison", "comparison_to_json", "format_comparison", "sample_in_turn"]


@dataclass(frozen=True)
class Quantity:
    """One number of a sample that is compared.

    Args:
        name: what the table and the JSON call it.
        unit: its unit, shown behind the name.
        of: returns it, or None where the sample does not have it.
    """

    name: str
    unit: str
    of: Callable[[Sample], float | None]


QUANTITIES = (
    Quantity("step time", "ms", lambda s: s.step_time * 1000),
    Quantity("throughput", "samples/s", lambda s: s.batch / s.step_time if s.batch else None),
    Quantity("peak memory", "MB", lambda s: s.peak_kb / 1024 if s.peak_kb else None),
    Quantity("time to first step", "s", lambda s: s.first_step_seconds),
)


# By whether python's losses are, and nano-run's.
_NOT_FINITE = {
    (True, False): "not finite under nano-run",
    (False, True): "not finite under python",
    (False, False): "not finite in both",
}


@dataclass(frozen=True)
class Comparison:
    """Samples of two ways to run one script, as many of each.

    Args:
        python: the samples under plain `python`, in the order of the rounds.
        nano_run: those under `nano-run`.
        choice: what `nano-run` chose, in one phrase.
    """

    python: tuple[Sample, ...]
    nano_run: tuple[Sample, ...]
    choice: str

    def rows(self) -> list[tuple[Quantity, tuple[float, ...], tuple[float, ...], Difference]]:
        """Return the quantities that all samples have, with both series and their ratio."""
        found = []
        for quantity in QUANTITIES:
            series = [
                tuple(quantity.of(sample) for sample in samples)
                for samples in (self.python, self.nano_run)
            ]
            plain, ours = (tuple(n for n in one if n is not None) for one in series)
            if len(plain) == len(ours) == len(self.python):
                found.append((quantity, plain, ours, compare_rounds(plain, ours)))
        return found

    def losses(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the last losses of both, one a round; () where none was seen."""
        return _last_losses(self.python), _last_losses(self.nano_run)

    def verdict(self) -> str:
        """Return one sentence on the step time."""
        difference = self.rows()[0][3]
        span = f"{difference.low:.2f} to {difference.high:.2f}"
        if not difference.is_real:
            return (
                f"no difference in step time that {difference.rounds} rounds can distinguish "
                "from noise "
                f"(ratio {difference.ratio:.2f}, 95 % interval {span})"
            )
        ratio, word = difference.ratio, "fast"
        if ratio < 1:
            ratio, word = 1 / ratio, "slow"
        return (
            f"a step under nano-run is {ratio:.2f} times as {word} as under python "
            f"(python's time over nano-run's: 95 % interval {span})"
        )


def sample_in_turn(
    python: Callable[[int], Sample],
    nano_run: Callable[[int], Sample],
    rounds: int,
    advance: Callable[[], None],
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Take samples of both in turn, and of either first in every other round.

    Args:
        python: takes a sample under plain `python`; its argument is the round, from 0.
        nano_run: takes one under `nano-run`.
        rounds: how many rounds.
        advance: called after each sample, to show progress.

    Raises:
        SampleError: a sample cannot be taken.
    """
    plain: list[Sample] = []
    ours: list[Sample] = []
    for number in range(rounds):
        turns = [(plain, python), (ours, nano_run)]
        for samples, take in turns if number % 2 == 0 else turns[::-1]:
            samples.append(take(number))
            advance()
    return tuple(plain), tuple(ours)


def _loss_rows(comparison: Comparison) -> list[tuple[str, str, str, str, str]]:
    plain, ours = comparison.losses()
    if not (plain and ours):
        return []
    name = f"loss after {len(comparison.python[0].losses)} steps"
    return [(name, _spread(plain), _spread(ours), "", _judge_losses(plain, ours))]


def format_comparison(comparison: Comparison) -> str:
    """Return the table and the verdict as text."""
    table = [("", "python", "nano-run", "ratio (95 % interval)", "")]
    for quantity, plain, ours, difference in comparison.rows():
        table.append(
            (
                f"{quantity.name}{f', {quantity.unit}' if quantity.unit else ''}",
                _spread(plain),
                _spread(ours),
                f"{difference.ratio:.2f} ({difference.low:.2f}-{difference.high:.2f})",
                "" if difference.is_real else "no difference",
            )
        )
    table += _loss_rows(comparison)
    rounds, steps = len(comparison.python), len(comparison.python[0].step_seconds)
    return "\n".join(
        [
            *align(table),
            "",
            (
                f"median (lowest-highest) of {rounds} rounds of {steps} steps after the warm-up; "
                "ratios are python's over nano-run's"
            ),
            f"nano-run: {comparison.choice}",
            f"Verdict: {comparison.verdict()}.",
            "",
        ]
    )


def comparison_to_json(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as plain values; what is not finite, which JSON has not, is None."""
    quantities = {
        quantity.name.replace(" ", "_"): {
            "unit": quantity.unit,
            "python": list(plain),
            "nano_run": list(ours),
            "ratio": difference.ratio,
            "low": difference.low,
            "high": difference.high,
            "is_real": difference.is_real,
        }
        for quantity, plain, ours, difference in comparison.rows()
    }
    plain_losses, our_losses = comparison.losses()
    return {
        "rounds": len(comparison.python),
        "nano_run": comparison.choice,
        "quantities": quantities,
        "loss": {
            "python": [loss if math.isfinite(loss) else None for loss in plain_losses],
            "nano_run": [loss if math.isfinite(loss) else None for loss in our_losses],
        },
        "verdict": comparison.verdict(),
    }


def _last_losses(samples: Sequence[Sample]) -> tuple[float, ...]:
    losses = [sample.last_loss for sample in samples]
    return tuple(loss for loss in losses if loss is not None)


def _judge_losses(plain: Sequence[float], ours: Sequence[float]) -> str:
    if not all(map(math.isfinite, (*plain, *ours))):
        return _NOT_FINITE[all(map(math.isfinite, plain)), all(map(math.isfinite, ours))]
    if min(ours) <= max(plain) and min(plain) <= max(ours):
        return "within the spread of the rounds"
    before, after = statistics.median(plain), statistics.median(ours)
    # A loss may be negative, as a log-likelihood's; of 0 there is no share.
    change = f"{(after - before) / abs(before):+.1%}" if before else f"{after - before:+.3g}"
    return f"{change} beyond the spread of the rounds"


def _spread(numbers: Sequence[float]) -> str:
    middle = statistics.median(numbers)
    known = middle and math.isfinite(middle)
    digits = max(0, 2 - math.floor(math.log10(abs(middle)))) if known else 2
    low, high = min(numbers), max(numbers)
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"
