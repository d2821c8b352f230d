"""Plain command lines are read without click, and only those."""

from __future__ import annotations

from types import ModuleType

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init.cli import init, init_options, run, run_options
from nano_init.cli.plain import parse_plain

FLAGS = ("--quiet", "-m")
VALUES = ("--precision",)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], ({}, [])),
        (["s.py", "--quiet"], ({}, ["s.py", "--quiet"])),
        (["--quiet", "s.py"], ({"--quiet": ""}, ["s.py"])),
        (["--precision", "float32", "s.py"], ({"--precision": "float32"}, ["s.py"])),
        (["--precision=float32", "s.py"], ({"--precision": "float32"}, ["s.py"])),
        (["--precision=", "s.py"], ({"--precision": ""}, ["s.py"])),
        (["-m", "mod", "-m"], ({"-m": ""}, ["mod", "-m"])),
        (["-", "x"], ({}, ["-", "x"])),
        (["--precision"], None),
        (["--help"], None),
        (["--quiet=1", "s.py"], None),
        (["--prec", "float32", "s.py"], None),
        (["--", "s.py"], None),
    ],
)
def test_known_options_are_split_from_operands_and_all_else_is_left_to_click(
    argv: list[str], expected: object
) -> None:
    assert parse_plain(argv, FLAGS, VALUES) == expected


def test_a_list_is_joined_and_the_last_of_other_values_counts() -> None:
    argv = ["--paths", "a,b", "--paths=c", "--precision", "x", "--precision", "y", "s.py"]
    expected = ({"--paths": "a,b,c", "--precision": "y"}, ["s.py"])
    assert parse_plain(argv, FLAGS, (*VALUES, "--paths"), ("--paths",)) == expected


@given(st.lists(st.text(max_size=8) | st.sampled_from([*FLAGS, *VALUES])))
def test_no_argument_is_lost_or_changed(argv: list[str]) -> None:
    parsed = parse_plain(argv, FLAGS, VALUES)
    if parsed is not None:
        assert argv[len(argv) - len(parsed[1]) :] == parsed[1]


@pytest.mark.parametrize(
    ("plain", "command"), [(run, run_options.nano_run), (init, init_options.nano_init_command)]
)
def test_what_is_read_without_click_is_what_click_defines(
    plain: ModuleType, command: click.Command
) -> None:
    """An option that is renamed, or takes a value now, must change in both."""
    options = [p for p in command.params if isinstance(p, click.Option)]
    flags = {name for option in options if option.is_flag for name in option.opts}
    values = {name for option in options if not option.is_flag for name in option.opts}
    assert flags >= set(plain._FLAGS)
    assert values >= set(plain._VALUES)
