"""Tests whose outcome differs between plain and patched Keras, and those that may."""

from __future__ import annotations

import fnmatch
import json
from dataclasses import dataclass
from pathlib import Path

from suite_process import Outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Difference", "Expected", "find_differences", "read_expected", "reason_for"]

EXPECTED_FILE = Path(__file__).with_name("expected_differences.json")
_MISSING = Outcome("missing", "it was not run")


@dataclass(frozen=True)
class Difference:
    """A test that came to something else under the patch."""

    test: str
    plain: Outcome
    patched: Outcome


@dataclass(frozen=True)
class Expected:
    """Tests that may differ, and why.

    Args:
        test: A pattern, as in `fnmatch`, of the test's name in pytest.
        precisions: The patch's precisions under which they may.
        reason: One sentence.
    """

    test: str
    precisions: tuple[str, ...]
    reason: str


def read_expected(path: Path = EXPECTED_FILE) -> list[Expected]:
    """Return the tests that may differ."""
    return [
        Expected(row["test"], tuple(row["precisions"]), row["reason"])
        for row in json.loads(path.read_text(encoding="utf-8"))
    ]


def find_differences(
    plain: Mapping[str, Outcome], patched: Mapping[str, Outcome]
) -> list[Difference]:
    """Return the tests whose outcomes differ, by name."""
    pairs = ((n, plain.get(n, _MISSING), patched.get(n, _MISSING)) for n in {*plain, *patched})
    return sorted(
        (Difference(n, a, b) for n, a, b in pairs if a.outcome != b.outcome),
        key=lambda difference: difference.test,
    )


def reason_for(test: str, precision: str, expected: Iterable[Expected]) -> str | None:
    """Return why a test may differ under a precision, or None if it may not."""
    for entry in expected:
        if precision in entry.precisions and fnmatch.fnmatchcase(test, entry.test):
            return entry.reason
    return None
