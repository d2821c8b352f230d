"""The list of cases: code as users write it, each a function that returns one number.

A case runs unchanged in plain Keras. Its number (a final loss, a norm, or 1.0 for a property that
it asserts) must be about the same under mixed_bfloat16. A case in `BAD_CASES` raises; the script
must get the same exception type and message.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

if os.environ.get("TF_USE_LEGACY_KERAS"):
    import tf_keras as keras
else:
    import keras

__all__ = ["BAD_CASES", "CASES", "BadCase", "Case", "bad_case", "case", "keras"]


@dataclass(frozen=True)
class Case:
    """Code as users write it.

    Args:
        run: Returns the case's number.
        tolerance: The largest relative difference from the number of plain Keras.
        why: The reason for a tolerance above 5 %.
        legacy: The case also applies to Keras 2 (`tf_keras`).
        alone: The case changes its process (the global policy), so it runs in a separate one.
    """

    run: Callable[[], float]
    tolerance: float = 0.05
    why: str = ""
    legacy: bool = False
    alone: bool = False


@dataclass(frozen=True)
class BadCase:
    """Code that raises in plain Keras.

    Args:
        run: Raises.
        error: The exception's type.
        words: Text that the message contains.
    """

    run: Callable[[], object]
    error: type[BaseException]
    words: str
    legacy: bool = field(default=False)
    alone: bool = field(default=False)


CASES: dict[str, Case] = {}
BAD_CASES: dict[str, BadCase] = {}


def case(function=None, **options):
    """Register a case; options as in `Case`."""

    def register(run):
        entry = Case(run, **options)
        if run.__name__ in {**CASES, **BAD_CASES}:
            raise ValueError(f"two cases are named {run.__name__}")
        if entry.tolerance > 0.05 and not entry.why:
            raise ValueError(f"{run.__name__} gives no reason for its tolerance")
        CASES[run.__name__] = entry
        return run

    return register if function is None else register(function)


def bad_case(error, words, **options):
    """Register a case that raises `error` with `words` in its message."""

    def register(run):
        if run.__name__ in {**CASES, **BAD_CASES}:
            raise ValueError(f"two cases are named {run.__name__}")
        BAD_CASES[run.__name__] = BadCase(run, error, words, **options)
        return run

    return register
