"""Messages to the user: one sentence a line, on stderr, with the program's name."""

from __future__ import annotations

import sys

__all__ = ["say"]


def say(program: str, sentence: str) -> None:
    """Print one sentence of a program to stderr; where that is impossible, go on without.

    Args:
        program: the name that stands before the sentence.
        sentence: the text; line breaks in it become blanks.
    """
    if sys.stderr is None:  # closed by the caller: `nano-run train.py 2>&-`
        return
    try:
        sys.stderr.write(f"{program}: {' '.join(sentence.split())}\n")
        sys.stderr.flush()
    except OSError:
        return  # a full disk or a reader that has gone must not keep the program from running
