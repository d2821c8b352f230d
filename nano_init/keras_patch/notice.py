"""Messages of the patch: one line on stderr, once, or a warning at the user's own line."""

from __future__ import annotations

import sys
import warnings

from nano_init.keras_patch.own_frames import OWN_PATH
from nano_init.message import NANO_INIT, say

__all__ = ["say_once", "warn"]

_said: set[str] = set()


def say_once(sentence: str) -> None:
    """Print a sentence to stderr once per process; ignore errors.

    Args:
        sentence: The sentence without the program's name, which is added.
    """
    if sentence not in _said:
        _said.add(sentence)
        say(NANO_INIT, sentence)


def warn(sentence: str) -> None:
    """Warn at the user's line that called into nano-init, at any depth.

    Args:
        sentence: The complete sentence.

    Warns:
        UserWarning: The sentence.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(OWN_PATH):
        frame, level = frame.f_back, level + 1
    warnings.warn(sentence, stacklevel=level)
