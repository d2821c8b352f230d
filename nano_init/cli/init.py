"""`nano-init`: show, or print as shell code or data, the environment that fits here."""

from __future__ import annotations

import os
import sys

from nano_init.cli.init_answer import answer
from nano_init.cli.outcome import exit_code_of
from nano_init.cli.plain import parse_plain
from nano_init.errors import UsageError
from nano_init.message import NANO_INIT
from nano_init.protocol.variables import ARGUMENTS_VARIABLE
from nano_init.run.init_table import INIT_OPTIONS, build_init_request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nano_init.run.init_table import InitRequest

__all__ = ["main"]

_HELP = frozenset(["-h", "--help", "--version"])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv: the arguments; the process's own by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    return exit_code_of(NANO_INIT, lambda: _answer(arguments))


def _answer(arguments: list[str]) -> int:
    arguments = _with_sourced_arguments(arguments, os.environ)
    request = _parse_plain_request(arguments)
    return _run_with_click(arguments) if request is None else answer(request)


def _with_sourced_arguments(arguments: list[str], environ: Mapping[str, str]) -> list[str]:
    """Add the options that a sourcing shell passes in NANO_INIT_ARGS; given ones win."""
    text = environ.get(ARGUMENTS_VARIABLE, "")
    if not text.strip() or "--shell" not in arguments or "--unset" in arguments:
        return arguments
    import shlex

    from nano_init.cli.click_command import check_options
    from nano_init.cli.init_options import nano_init_command

    try:
        sourced = shlex.split(text)
        check_options(nano_init_command, sourced)
    except ValueError as error:
        why = str(error)
        raise UsageError(
            f"{ARGUMENTS_VARIABLE} is {text!r}: {why[:1].lower()}{why[1:].rstrip('.')}; correct it"
        ) from error
    return sourced + arguments


def _parse_plain_request(argv: Sequence[str]) -> InitRequest | None:
    parsed = parse_plain(argv, INIT_OPTIONS)
    if parsed is None or parsed[1] or "_NANO_INIT_COMPLETE" in os.environ:
        return None
    # Formats and mistakes are left to click, which names the choices.
    if parsed[0].get("output", "table") not in ("table", "json"):
        return None
    return build_init_request(parsed[0])


def _run_with_click(arguments: list[str]) -> int:
    from contextlib import nullcontext, redirect_stdout

    from nano_init.cli.click_command import run_command
    from nano_init.cli.init_options import nano_init_command

    # What a shell is about to evaluate must not be a help text.
    is_sourced_help = "--shell" in arguments and not _HELP.isdisjoint(arguments)
    with redirect_stdout(sys.stderr) if is_sourced_help else nullcontext():
        return run_command(nano_init_command, arguments, NANO_INIT)
