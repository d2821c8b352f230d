"""Run a click command so that every complaint of click's is one sentence and an exit code."""

from __future__ import annotations

import click

from nano_init.cli.message import say
from nano_init.cli.outcome import INTERRUPTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["run_command"]


def run_command(command: click.Command, argv: Sequence[str], program: str) -> int:
    """Run a click command and return its exit code; never exit.

    Args:
        command: the command; its callback may return an exit code.
        argv: the arguments without the program's name.
        program: the name that stands before messages.

    Raises:
        NanoError: the command's own failure.
    """
    try:
        result = command.main(list(argv), prog_name=program, standalone_mode=False)
    except click.exceptions.Abort:
        return INTERRUPTED
    except click.NoSuchOption as error:
        near = f", did you mean {error.possibilities[0]}" if error.possibilities else ""
        say(program, f"no such option {error.option_name!r}{near}; see '{program} --help'")
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
