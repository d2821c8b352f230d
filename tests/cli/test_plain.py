"""Plain command lines, and only those, are parsed without click."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init.cli.init_options import nano_init_command
from nano_init.cli.plain import parse_plain
from nano_init.cli.run_options import nano_run
from nano_init.run.init_table import INIT_OPTIONS
from nano_init.run.option_row import OptionRow
from nano_init.run.option_table import OPTIONS

ROWS = (
    OptionRow(("-q", "--quiet"), "quiet", "", is_plain=True),
    OptionRow(("-m",), "module", "", is_plain=True),
    OptionRow(("--precision",), "precision", "", "value", is_plain=True),
    OptionRow(("--paths",), "paths", "", "list", is_plain=True),
    OptionRow(("--tee",), "tee", ""),
)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], ({}, [])),
        (["s.py", "--quiet"], ({}, ["s.py", "--quiet"])),
        (["--quiet", "s.py"], ({"quiet": True}, ["s.py"])),
        (["--precision", "float32", "s.py"], ({"precision": "float32"}, ["s.py"])),
        (["--precision=float32", "s.py"], ({"precision": "float32"}, ["s.py"])),
        (["--precision=", "s.py"], ({"precision": ""}, ["s.py"])),
        (["-m", "mod", "-m"], ({"module": True}, ["mod", "-m"])),
        (["-", "x"], ({}, ["-", "x"])),
        (["--precision"], None),
        (["--help"], None),
        (["--quiet=1", "s.py"], None),
        (["--tee", "s.py"], None),
        (["--prec", "float32", "s.py"], None),
        (["--", "s.py"], None),
    ],
)
def test_known_options_are_split_from_operands_and_all_else_is_left_to_click(
    argv: list[str], expected: object
) -> None:
    assert parse_plain(argv, ROWS) == expected


def test_lists_accumulate_and_the_last_of_other_values_counts() -> None:
    argv = ["--paths", "a,b", "--paths=c", "--precision", "x", "--precision", "y", "s.py"]
    expected = ({"paths": ["a,b", "c"], "precision": "y"}, ["s.py"])
    assert parse_plain(argv, ROWS) == expected


@given(
    st.lists(st.text(max_size=8) | st.sampled_from([name for row in ROWS for name in row.names]))
)
def test_no_argument_is_lost_or_changed(argv: list[str]) -> None:
    parsed = parse_plain(argv, ROWS)
    if parsed is not None:
        assert argv[len(argv) - len(parsed[1]) :] == parsed[1]


@pytest.mark.parametrize(
    ("rows", "command"), [(OPTIONS, nano_run), (INIT_OPTIONS, nano_init_command)]
)
def test_click_has_the_options_of_the_table_and_no_others(
    rows: tuple[OptionRow, ...], command: click.Command
) -> None:
    """An option that only one parser knows would be mistaken for the script."""
    options = [p for p in command.params if isinstance(p, click.Option)]
    own = {name for option in options for name in option.opts if name != "--version"}
    flags = {name for option in options if option.is_flag for name in option.opts}
    assert own == {name for row in rows for name in row.names}
    assert flags - {"--version"} == {n for row in rows if row.kind == "flag" for n in row.names}
