"""Messages to the user: one sentence a line, on stderr, with the program's name."""

from __future__ import annotations

import sys

__all__ = ["say"]


def say(program: str, sentence: str) -> None:
    """Print one sentence of a program to stderr.

    Args:
        program: the name that stands before the sentence.
        sentence: the text; line breaks in it become blanks.
    """
    sys.stderr.write(f"{program}: {' '.join(sentence.split())}\n")
    sys.stderr.flush()
