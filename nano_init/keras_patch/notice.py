"""What the patch says: one line on stderr, once."""

from __future__ import annotations

from nano_init.message import NANO_INIT, say

__all__ = ["say_once"]

_said: set[str] = set()


def say_once(sentence: str) -> None:
    """Print a sentence to stderr unless this process has said it; go on where it cannot.

    Args:
        sentence: Without the program's name, which is put before it.
    """
    if sentence not in _said:
        _said.add(sentence)
        say(NANO_INIT, sentence)
