"""Say whether two ways of training differ, and by how much, from rounds of both. Pure.

Each round runs both, one after the other, in processes of their own. What the machine does
besides changes from minute to minute and from process to process, so a round is one
observation: the ratio within it. The steps inside one process are not independent and
are not counted as if they were.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LEAST_ROUNDS", "Difference", "compare_rounds"]

# Two rounds give no interval worth the name: t for one degree of freedom is 12.7.
LEAST_ROUNDS = 3

# Two-sided 95 % points of Student's t for 1, 2, … degrees of freedom.
_T95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
)

# Below this no user would notice, however certain it is.
_SMALLEST_RATIO = 1.02


@dataclass(frozen=True)
class Difference:
    """The ratio of a quantity between two ways, first over second.

    Args:
        ratio: the geometric mean over the rounds.
        low: the lower end of its 95 % confidence interval.
        high: the upper end.
        rounds: how many rounds it rests on.
    """

    ratio: float
    low: float
    high: float
    rounds: int

    @property
    def is_real(self) -> bool:
        """Say whether the interval leaves out 1, and the ratio is large enough to matter."""
        certain = self.low > 1 or self.high < 1
        return certain and max(self.ratio, 1 / self.ratio) >= _SMALLEST_RATIO


def compare_rounds(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Return the ratio of two series, round by round, with its confidence interval.

    The logarithms of the ratios are taken as normally distributed: Student's t-interval of
    their mean (NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.5.2).

    Args:
        first: one positive number a round.
        second: as many, of the same rounds.

    Raises:
        ValueError: there are fewer rounds than LEAST_ROUNDS, or not as many in both.
    """
    logs = [math.log(a / b) for a, b in zip(first, second, strict=True)]
    if len(logs) < LEAST_ROUNDS:
        raise ValueError(f"{len(logs)} rounds are too few; {LEAST_ROUNDS} are needed")
    mean = statistics.fmean(logs)
    # More degrees of freedom than the table has make the interval a little too wide.
    factor = _T95[min(len(logs) - 1, len(_T95)) - 1]
    margin = factor * statistics.stdev(logs) / math.sqrt(len(logs))
    return Difference(math.exp(mean), math.exp(mean - margin), math.exp(mean + margin), len(logs))
