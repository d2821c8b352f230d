"""One sentence and the type of the error say why there are too few steps."""

from __future__ import annotations

import pytest

from nano_init.errors import LateSampleError, MemorySampleError, SampleError, ScriptError
from nano_init.evidence.sampling.sample_errors import explain_sample_error


@pytest.mark.parametrize(
    ("steps", "code", "complaints", "kind", "sentence"),
    [
        (0, 1, "Traceback\nValueError: no\n\n", ScriptError, "failed before its first step: Valu"),
        (1, 3, "", ScriptError, "failed after 1 step with status 3"),
        (2, -11, "bad", ScriptError, "was ended by SIGSEGV after 2 steps: bad"),
        (2, -99, "", ScriptError, "was ended by signal 99 after 2 steps"),
        (0, None, "", ScriptError, "ended abruptly before its first step"),
        (
            2,
            -9,
            "",
            MemorySampleError,
            "was killed by SIGKILL after 2 steps, probably because memory ran out",
        ),
        (
            0,
            1,
            "tensorflow.ResourceExhaustedError: {{function_node}} OOM when allocating",
            MemorySampleError,
            "the script ran out of memory before its first step: tensorflow.Res",
        ),
        (0, 0, "", SampleError, "no training was seen"),
        (3, 0, "WARNING", SampleError, "training ended after 3 steps, too few to measure; let it"),
        (
            3,
            1,
            "OSError: [Errno 28] No space left on device",
            SampleError,
            "wrote more than a sample may after 3 steps: a sample's files are kept in memory",
        ),
    ],
)
def test_a_script_that_has_ended_is_explained_by_its_exit_status(
    steps: int, code: int | None, complaints: str, kind: type[SampleError], sentence: str
) -> None:
    error = explain_sample_error(steps, code, complaints, 5.0, is_late=False)
    assert type(error) is kind
    assert sentence in str(error)


def test_a_script_that_still_runs_is_late_whatever_it_printed() -> None:
    error = explain_sample_error(1, None, "EOFError", 7.4, is_late=True)
    assert type(error) is LateSampleError
    assert str(error) == "the script was still running after 1 step when 7 seconds were over"


@pytest.mark.parametrize(
    ("steps", "code", "complaints", "kind", "sentence"),
    [
        (
            0,
            1,
            "ValueError: invalid literal for int()",
            ScriptError,
            "it failed before its first step (ValueError: invalid literal for int())",
        ),
        (2, 3, "", ScriptError, "it failed after 2 steps with status 3"),
        (0, 0, "", SampleError, "it trained nothing without"),
        (3, 0, "", SampleError, "it ended after 3 steps"),
    ],
)
def test_reading_standard_input_is_reported_first(
    steps: int, code: int, complaints: str, kind: type[SampleError], sentence: str
) -> None:
    error = explain_sample_error(steps, code, complaints, 5.0, is_late=False, has_read=True)
    assert type(error) is kind
    reads = "the script reads its standard input, which is empty in a sample: "
    assert str(error) == reads + sentence


def test_a_crash_is_not_blamed_on_standard_input() -> None:
    error = explain_sample_error(2, -11, "", 5.0, is_late=False, has_read=True)
    assert str(error) == "the script was ended by SIGSEGV after 2 steps"


def test_a_late_script_that_reads_standard_input_is_reported_as_such() -> None:
    error = explain_sample_error(0, None, "", 7.4, is_late=True, has_read=True)
    assert type(error) is LateSampleError
    assert str(error).endswith("over (it reads its standard input, which is empty in a sample)")


def test_a_script_that_closes_all_its_files_does_not_count_as_ended() -> None:
    error = explain_sample_error(0, None, "", 5.0, is_late=False, has_closed=True)
    assert type(error) is SampleError
    assert "closed all inherited files before its first step" in str(error)
