"""What the patch tells of itself: one line on stderr, once."""

from __future__ import annotations

import sys

__all__ = ["tell_once"]

_told: set[str] = set()


def tell_once(sentence: str) -> None:
    """Print a sentence to stderr unless this process has said it; go on where it cannot.

    Args:
        sentence: Without the program's name, which is put before it.
    """
    if sentence in _told or sys.stderr is None:
        return
    _told.add(sentence)
    try:
        print(f"nano-init: {sentence}", file=sys.stderr, flush=True)
    except OSError:
        return  # a reader that has gone must not keep the program from training
