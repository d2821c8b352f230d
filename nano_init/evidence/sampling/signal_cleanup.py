"""End in order when asked to: what was started ends, what was made is removed, and then.

By default SIGTERM and SIGHUP end a process at once; samples leave folders and processes.
"""

from __future__ import annotations

import atexit
import os
import signal
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["cleanup_on_signals"]

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class _Ended(BaseException):
    """A signal has asked this process to end; like KeyboardInterrupt no error of anything."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def cleanup_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind what is done in here, and then end this process.

    It is ended by the signal itself, as its parent would see it otherwise. What is ignored, as
    SIGHUP under nohup(1), or handled already stays so.
    """
    ours = [each for each in _SIGNALS if signal.getsignal(each) is signal.SIG_DFL]

    def end(number: int, _frame: FrameType | None) -> None:
        for each in ours:  # a second one must not end what the first one has begun
            signal.signal(each, signal.SIG_IGN)
        raise _Ended(number)

    for each in ours:
        signal.signal(each, end)
    ended = 0
    try:
        yield
    except _Ended as error:
        ended = error.number
    finally:
        for each in ours:
            signal.signal(each, signal.SIG_DFL)
    if ended:
        atexit._run_exitfuncs()  # as at any other end: removes what was left open
        os.kill(os.getpid(), ended)
