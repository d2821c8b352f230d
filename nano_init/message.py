"""Messages to the user: one sentence per line on stderr, and complete output on stdout."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["NANO_INIT", "NANO_RUN", "flush_output", "say", "write_output"]

# The names of the commands, which begin their messages.
NANO_INIT = "nano-init"
NANO_RUN = "nano-run"


def say(program: str, sentence: str) -> None:
    """Print one sentence of a program to stderr; continue silently if that is impossible.

    Args:
        program: the name that stands before the sentence.
        sentence: the text; line breaks in it become blanks.
    """
    if sys.stderr is None:  # closed by the caller: `nano-run train.py 2>&-`
        return
    try:
        sys.stderr.write(f"{program}: {' '.join(sentence.split())}\n")
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        return  # a full disk or a reader that has gone must not keep the program from running


def write_output(text: bytes) -> None:
    """Write to stdout, all of it.

    Args:
        text: as bytes, because a path or a variable's value need not be valid in the
            locale's encoding.

    Raises:
        OSError: stdout is closed, or cannot take it.
    """
    stdout = sys.stdout
    if stdout is None:
        import errno
        import os

        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    stdout.flush()
    stdout.buffer.write(text)
    stdout.buffer.flush()


def flush_output() -> None:
    """Flush stdout and stderr; data that cannot be written stays in their buffers."""
    for stream in (sys.stdout, sys.stderr):
        _flush(stream)


def _flush(stream: TextIO | None) -> None:
    try:
        if stream is not None:
            stream.flush()
    except (AttributeError, OSError, ValueError):
        return  # closed, or replaced by the script
