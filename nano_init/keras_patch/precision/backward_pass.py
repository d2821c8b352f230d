"""Whether a tape computes gradients now, in this thread."""

from __future__ import annotations

import threading
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["backward_pass", "is_backward_pass"]

_HERE = threading.local()


@contextmanager
def backward_pass() -> Iterator[None]:
    """Mark what runs inside as the computation of gradients."""
    _HERE.depth = getattr(_HERE, "depth", 0) + 1
    try:
        yield
    finally:
        _HERE.depth -= 1


def is_backward_pass() -> bool:
    """Say whether the ops that are created now compute gradients."""
    return getattr(_HERE, "depth", 0) > 0
