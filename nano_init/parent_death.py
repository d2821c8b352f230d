"""End this process when its parent does (prctl(2), PR_SET_PDEATHSIG): even by SIGKILL."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["die_with_parent", "parent_death_setter"]

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


def die_with_parent(number: int) -> None:
    """Have the kernel send this process a signal when its parent has ended; Linux only.

    Args:
        number: the signal.
    """
    parent_death_setter(number)()


def parent_death_setter(number: int) -> Callable[[], object]:
    """Return what does as `die_with_parent`, and imports nothing: for a process just forked.

    Args:
        number: the signal.
    """
    if not sys.platform.startswith("linux"):
        return lambda: None
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
