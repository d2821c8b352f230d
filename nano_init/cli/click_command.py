"""Run a click command so that every complaint of click's is one sentence and an exit code."""

from __future__ import annotations

from types import MappingProxyType

import click

from nano_init.cli.outcome import INTERRUPTED
from nano_init.message import say
from nano_init.plan.precision import PRECISIONS, check_precision

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    _Choice = click.Choice[str]
else:
    _Choice = click.Choice  # generic since click 8.2 only

__all__ = ["PrecisionName", "check_options", "run_command"]


class PrecisionName(_Choice):
    """A precision: completed and listed as a choice, checked by the shared rule."""

    def __init__(self) -> None:
        super().__init__(PRECISIONS)

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the precision, or raise the PrecisionError that says why not."""
        del param, ctx
        return check_precision(value)


def check_options(command: click.Command, argv: Sequence[str]) -> None:
    """Check that arguments are whole options of a command, and nothing else.

    Args:
        command: the command.
        argv: arguments that others will follow, and must not be swallowed by the last.

    Raises:
        ValueError: an option is unknown or lacks its value, or something else is there.
    """
    try:
        _, operands, _ = command.make_parser(click.Context(command)).parse_args(list(argv))
    except click.UsageError as error:
        raise ValueError(_sentence(error)) from error
    if operands:
        raise ValueError(f"{operands[0]!r} is not an option")


def run_command(
    command: click.Command,
    argv: Sequence[str],
    program: str,
    hints: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Run a click command and return its exit code; never exit.

    Args:
        command: the command; its callback may return an exit code.
        argv: the arguments without the program's name.
        program: the name that stands before messages.
        hints: what to say of an option that there is not, by its name.

    Raises:
        NanoError: the command's own failure.
    """
    try:
        result = command.main(list(argv), prog_name=program, standalone_mode=False)
    except click.exceptions.Abort:
        return INTERRUPTED
    except click.NoSuchOption as error:
        near = f", did you mean {error.possibilities[0]}" if error.possibilities else ""
        name = error.option_name
        hint = f"; {hints[name]}" if name in hints else ""
        say(program, f"no such option {name!r}{near}{hint}; see '{program} --help'")
        return error.exit_code
    except click.UsageError as error:
        say(program, f"{_sentence(error)}; see '{program} --help'")
        return error.exit_code
    except click.ClickException as error:
        say(program, _sentence(error))
        return error.exit_code
    return result if isinstance(result, int) else 0


def _sentence(error: click.ClickException) -> str:
    text = " ".join(error.format_message().split()).rstrip(".")
    return text[:1].lower() + text[1:]
