"""Suggest float32 to a user whose script failed in a precision that nano-run chose."""

from __future__ import annotations

import functools

from nano_init.message import NANO_RUN, say

__all__ = ["name_way_out"]

_SENTENCE = (
    "the script ran in mixed_bfloat16, which nano-run chose for this processor; "
    "if that is the cause, use `nano-run --precision float32`"
)


@functools.cache
def name_way_out() -> None:
    """Print one line after the traceback if an exception ends the program; register once.

    Neither the traceback nor the exit status changes: Python leaves the exception that ended
    the program in `sys.last_value` (Python 3, `sys.last_exc`), whatever `sys.excepthook` is.
    """
    import atexit
    import sys

    def print_way_out() -> None:
        if isinstance(getattr(sys, "last_value", None), Exception):
            say(NANO_RUN, _SENTENCE)

    atexit.register(print_way_out)
