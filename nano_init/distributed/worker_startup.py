"""What a worker of a job does before its program runs."""

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
        text: the membership, as the launcher wrote it.

    Raises:
        LaunchError: the text is damaged.
    """
    global _membership, _pid
    import random

    _membership = parse_membership(text)
    _pid = os.getpid()
    for descriptor in (_membership.status_fd, _membership.memory_fd):
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
    """Report to the launcher what has become of this worker: one line, with the time.

    Args:
        word: "joined", "failed" or "done".
        fault: what it failed by, the name of an exception.
    """
    from time import monotonic_ns

    # A process that this one has forked is no worker, whatever it has inherited.
    if _membership is None or _membership.status_fd < 0 or os.getpid() != _pid:
        return
    try:
        os.write(_membership.status_fd, f"{word} {monotonic_ns()} {fault}\n".encode())
    except OSError:
        return  # a launcher that has gone takes this process with it


def _leave_together() -> None:
    """Stay until all workers have come to their end: one may still need what this one holds.

    The launcher lets this worker go when they have, or when it has waited long enough.
    """
    if _membership is None or _membership.status_fd < 0 or _is_failing or os.getpid() != _pid:
        return
    report_status("done")
    try:
        os.read(_membership.status_fd, 16)
    except OSError:
        return


def _wrap_exit(leave: Callable[..., NoReturn]) -> Callable[..., NoReturn]:
    """Return a `sys.exit` after whose failing status this worker does not wait for others."""

    @functools.wraps(leave)
    def note_and_leave(*status: object) -> NoReturn:
        global _is_failing
        _is_failing = bool(status and status[0] not in (None, 0))
        leave(*status)

    return note_and_leave


def _wrap_excepthook(hook: Excepthook) -> Excepthook:
    """Return an excepthook that reports to the launcher when this worker began to fail.

    Its peers fail a moment later, over its absence, and may be gone before it is.
    """

    def report_and_show(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        global _is_failing
        _is_failing = True
        report_status("failed", kind.__name__)
        hook(kind, error, traceback)

    return report_and_show
