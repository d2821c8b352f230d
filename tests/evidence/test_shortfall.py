"""Why there are too few steps is told in one sentence, and in the kind of the error."""

from __future__ import annotations

import pytest

from nano_init.errors import LateSampleError, SampleError, ScriptError
from nano_init.evidence.shortfall import explain_shortfall


@pytest.mark.parametrize(
    ("steps", "code", "complaints", "kind", "sentence"),
    [
        (0, 1, "Traceback\nValueError: no\n\n", ScriptError, "failed before its first step: Valu"),
        (1, 3, "", ScriptError, "failed after 1 step with status 3"),
        (2, -11, "bad", ScriptError, "was ended by SIGSEGV after 2 steps: bad"),
        (2, -99, "", ScriptError, "was ended by signal 99 after 2 steps"),
        (0, None, "", ScriptError, "ended abruptly before its first step"),
        (0, 1, "EOFError: EOF when", SampleError, "reads stdin, which a sample does not have"),
        (0, 0, "", SampleError, "trained nothing that can be seen"),
        (3, 0, "WARNING", SampleError, "training ended after 3 steps, too few to measure; let it"),
        (
            3,
            1,
            "OSError: [Errno 28] No space left on device",
            SampleError,
            "wrote more than a sample may after 3 steps: its files are kept in memory",
        ),
    ],
)
def test_what_has_ended_is_explained_by_its_status(
    steps: int, code: int | None, complaints: str, kind: type[SampleError], sentence: str
) -> None:
    error = explain_shortfall(steps, code, complaints, 5.0, is_late=False)
    assert type(error) is kind
    assert sentence in str(error)


def test_what_runs_on_is_late_whatever_it_printed() -> None:
    error = explain_shortfall(1, None, "EOFError", 7.4, is_late=True)
    assert type(error) is LateSampleError
    assert str(error) == "the script was still running after 1 step when 7 seconds were over"
