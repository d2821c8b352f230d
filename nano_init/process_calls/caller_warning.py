"""Warnings that name the line of the script, however many frames lie in between."""

from __future__ import annotations

import os
import sys
import warnings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

__all__ = ["warn_caller"]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_KERAS = os.path.join("", "keras", "src", "")


def warn_caller(message: str) -> None:
    """Warn at the line that called nano-init, beyond Keras's own frames.

    `warnings.warn` has `skip_file_prefixes` for this from Python 3.12 on only.

    Args:
        message: what to warn of.
    """
    level = 1
    frame: FrameType | None = sys._getframe()
    while frame is not None and _is_inner(frame.f_code.co_filename):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def _is_inner(path: str) -> bool:
    return path.startswith(_PACKAGE + os.sep) or _KERAS in path
