"""fish and csh: one line sets the environment, one restores it, silently and byte for byte."""

from __future__ import annotations

import os

import pytest

_ONE_LINE = {
    "fish": "nano-init --shell fish {} | source",
    "tcsh": 'eval "`nano-init --shell csh {}`"',
}
_HARD = {"KMP_AFFINITY": "it's $x `id` !! \\ %", "KMP_BLOCKTIME": "", "OMP_NUM_THREADS": "7"}


@pytest.fixture(params=_ONE_LINE)
def other(request: pytest.FixtureRequest, start_shell):
    return start_shell(request.param)


def _lines(shell, *steps: str) -> str:
    return "\n".join(
        _ONE_LINE[shell.name].format(step[1:]) if step.startswith("!") else step for step in steps
    )


def test_one_line_sets_and_one_line_restores_the_environment(other) -> None:
    code = _lines(
        other, "env -0 >before", "!--force", "env -0 >between", "!--unset", "env -0 >after", ""
    )

    finished = other.run(code, env=_HARD)

    assert (finished.returncode, finished.stdout, finished.stderr) == (0, b"", b"")
    between = other.environment("between")
    assert {n: between[n.encode()] for n in _HARD} != {n: v.encode() for n, v in _HARD.items()}
    assert other.environment("after") == other.environment("before")


def test_a_second_run_changes_nothing_and_other_options_replace_the_first(other) -> None:
    code = _lines(
        other,
        *("!--threads 1", "env -0 >alone", "!", "env -0 >full", "!", "env -0 >twice"),
        *("!--threads 1", "env -0 >after", ""),
    )

    finished = other.run(code)

    assert (finished.returncode, finished.stdout, finished.stderr) == (0, b"", b"")
    assert other.environment("full") == other.environment("twice")
    assert other.environment("alone") == other.environment("after")


def test_a_failure_prints_one_sentence_and_changes_nothing(other) -> None:
    code = _lines(other, "env -0 >before", "!--threads many", "env -0 >after", "")

    finished = other.run(code)

    assert finished.stdout == b""
    assert os.fsdecode(finished.stderr).count("\n") == 1
    assert other.environment("after") == other.environment("before")


def test_fish_sets_global_variables_inside_a_function(start_shell) -> None:
    shell = start_shell("fish")
    code = "function f\n  nano-init --shell fish | source\nend\nf\nenv -0 >after\n"

    shell.run(code)

    assert b"OMP_NUM_THREADS" in shell.environment("after")
