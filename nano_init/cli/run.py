"""`nano-run`: run a Python program as fast as this machine allows."""

from __future__ import annotations

import os
import sys

from nano_init.cli.outcome import exit_code_of
from nano_init.cli.plain import parse_plain
from nano_init.message import NANO_RUN
from nano_init.protocol.variables import OPTION_PREFIX, PRECISION_VARIABLE
from nano_init.run.dispatch import run
from nano_init.run.option_table import OPTIONS, build_request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from nano_init.run.request import RunRequest

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, and become the program that it names.

    Args:
        argv: the arguments; the process's own by default.

    Returns:
        The exit code where no program is started.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    return exit_code_of(NANO_RUN, lambda: _answer(arguments))


def _answer(arguments: list[str]) -> int:
    arguments = _split_module(_split_report(arguments))
    request = _parse_plain_request(arguments, os.environ)
    if request is not None:
        return run(request)
    from nano_init.cli.click_command import run_command
    from nano_init.cli.run_options import PYTHON_OPTIONS, nano_run

    return run_command(nano_run, arguments, NANO_RUN, PYTHON_OPTIONS)


def _split_module(arguments: list[str]) -> list[str]:
    """Accept `-mMODULE` as `-m MODULE`, as Python does."""
    for position, argument in _own(arguments):
        if argument[:2] == "-m" != argument:
            return [*arguments[:position], "-m", argument[2:], *arguments[position + 1 :]]
    return arguments


def _split_report(arguments: list[str]) -> list[str]:
    """Let `--report` without a file be `--report=`, or click would take the script for it."""
    for position, argument in _own(arguments):
        if argument == "--report":
            return [*arguments[:position], "--report=", *arguments[position + 1 :]]
    return arguments


def _own(arguments: list[str]) -> Iterator[tuple[int, str]]:
    """Yield the arguments before the program's own, with their positions."""
    valued = {name for row in OPTIONS if row.kind in ("value", "list") for name in row.names}
    for position, argument in enumerate(arguments):
        is_value = position > 0 and arguments[position - 1] in valued
        if not is_value and (argument in ("-", "--") or not argument.startswith("-")):
            return
        yield position, argument


def _parse_plain_request(argv: Sequence[str], environ: Mapping[str, str]) -> RunRequest | None:
    # The one twin that `nano-init --precision` leaves in a shell; click reads the others.
    if any(n.startswith(OPTION_PREFIX) and n != PRECISION_VARIABLE for n in environ):
        return None
    parsed = parse_plain(argv, OPTIONS)
    if parsed is None or not parsed[1]:
        return None
    given: dict[str, Any] = parsed[0]
    if environ.get(PRECISION_VARIABLE):
        given.setdefault("precision", environ[PRECISION_VARIABLE])
    script, *arguments = parsed[1]
    return build_request(given, script, tuple(arguments))
