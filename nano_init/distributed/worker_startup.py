"""The startup of a worker, before its program runs."""

from __future__ import annotations

import atexit
import functools
import os
import sys

from nano_init.protocol.membership import parse_membership

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import NoReturn

    from nano_init.protocol.membership import Membership

    Excepthook = Callable[[type[BaseException], BaseException, TracebackType | None], object]

__all__ = ["current_membership", "join", "report_status"]

_membership: Membership | None = None
_is_failing = False
_pid = -1


def join(text: str) -> None:
    """Take this process's place in its job.

    Args:
        text: the membership that the launcher wrote.

    Raises:
        LaunchError: the text is damaged.
    """
    global _membership, _pid
    import random

    _membership = parse_membership(text)
    _pid = os.getpid()
    for descriptor in (
        _membership.status_fd,
        _membership.memory_fd,
        _membership.incoming_fd,
        _membership.outgoing_fd,
    ):
        if descriptor >= 0:
            os.set_inheritable(descriptor, False)
    random.seed(_membership.seed)
    sys.excepthook = _wrap_excepthook(sys.excepthook)
    sys.exit = _wrap_exit(sys.exit)
    # Registered first, it runs last.
    atexit.register(_leave_together)


def current_membership() -> Membership | None:
    """Return this process's place in its job, or None outside one."""
    return _membership


def report_status(word: str, fault: str = "") -> None:
    """Report the state of this worker to the launcher: one line, with the time.

    Args:
        word: "joined", "failed" or "done".
        fault: the name of the exception that made it fail.
    """
    from time import monotonic_ns

    # A child process is not a worker, whatever it inherited.
    if _membership is None or _membership.status_fd < 0 or os.getpid() != _pid:
        return
    try:
        os.write(_membership.status_fd, f"{word} {monotonic_ns()} {fault}\n".encode())
    except OSError:
        return  # if the launcher has ended, this process ends too


def _leave_together() -> None:
    """Wait until all workers have finished, because one may still need data from this one.

    The launcher releases this worker when all have finished, or after a timeout.
    """
    if _membership is None or _membership.status_fd < 0 or _is_failing or os.getpid() != _pid:
        return
    report_status("done")
    try:
        os.read(_membership.status_fd, 16)
    except OSError:
        return


def _wrap_exit(leave: Callable[..., NoReturn]) -> Callable[..., NoReturn]:
    """Return a `sys.exit` after which a failing worker does not wait for the others."""

    @functools.wraps(leave)
    def note_and_leave(*status: object) -> NoReturn:
        global _is_failing
        _is_failing = bool(status and status[0] not in (None, 0))
        leave(*status)

    return note_and_leave


def _wrap_excepthook(hook: Excepthook) -> Excepthook:
    """Return an excepthook that reports to the launcher when this worker started to fail.

    Its peers fail a moment later because it is missing, and may end before it does.
    """

    def report_and_show(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        global _is_failing
        _is_failing = True
        report_status("failed", kind.__name__)
        hook(kind, error, traceback)

    return report_and_show
