"""How a command ends: with an exit code, and one sentence where it fails."""

from __future__ import annotations

import os
import sys

from nano_init.errors import NanoError
from nano_init.message import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["INTERRUPTED", "exit_code_of"]

# 128 plus SIGINT's number, as a shell reports a command that Ctrl-C ended.
INTERRUPTED = 130


def exit_code_of(program: str, act: Callable[[], int]) -> int:
    """Do something and return its exit code, or say in one sentence why it failed.

    Args:
        program: the name that stands before the sentence.
        act: what to do; it returns the exit code.
    """
    try:
        return act()
    except NanoError as error:
        say(program, str(error))
        return error.exit_code
    except BrokenPipeError:
        _abandon_stdout()
        return 1
    except OSError as error:
        _abandon_stdout()
        what = "the output cannot be written" if error.filename is None else error.filename
        say(program, f"{what}: {error.strerror or error}")
        return NanoError.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED


def _abandon_stdout() -> None:
    """Keep Python from flushing again at exit, and reporting the error twice.

    See the note on SIGPIPE in https://docs.python.org/3/library/signal.html.
    """
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
