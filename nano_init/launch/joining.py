"""What a worker of a job does before its program runs."""

from __future__ import annotations

import os
import sys

from nano_init.launch.membership import parse_membership

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from nano_init.launch.membership import Membership

__all__ = ["current_membership", "join", "prepare_module", "tell"]

_membership: Membership | None = None


def join(text: str) -> None:
    """Take this process's place in its job.

    Args:
        text: the membership, as the launcher wrote it.

    Raises:
        LaunchError: the text is damaged.
    """
    global _membership
    import random

    _membership = parse_membership(text)
    if _membership.status_fd >= 0:
        os.set_inheritable(_membership.status_fd, False)
    random.seed(_membership.seed)
    sys.excepthook = _telling(sys.excepthook)


def current_membership() -> Membership | None:
    """Return this process's place in its job, or None outside one."""
    return _membership


def prepare_module(name: str) -> None:
    """Prepare a module that the program has just imported for its part in the job.

    Args:
        name: "numpy" or "tensorflow".
    """
    if _membership is None:
        return
    if name == "numpy":
        from nano_init.keras_patch.distribution.randomness import seed_numpy

        seed_numpy(_membership.seed)
    elif name == "tensorflow":
        from nano_init.keras_patch.distribution.strategy import await_first_use

        await_first_use(_membership)


def tell(word: str) -> None:
    """Tell the launcher what has become of this worker: one line, with the time.

    Args:
        word: "joined" or "failed".
    """
    from time import monotonic_ns

    if _membership is None or _membership.status_fd < 0:
        return
    try:
        os.write(_membership.status_fd, f"{word} {monotonic_ns()}\n".encode())
    except OSError:
        return  # a launcher that has gone takes this process with it


def _telling(hook: object) -> object:
    """Return an excepthook that tells the launcher when this worker began to fail.

    Its peers fail a moment later, over its absence, and may be gone before it is.
    """

    def tell_and_report(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        tell("failed")
        hook(kind, error, traceback)  # type: ignore[operator]

    return tell_and_report
