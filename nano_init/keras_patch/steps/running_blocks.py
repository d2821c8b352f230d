"""The blocks of the `fit` that is running in this thread."""

from __future__ import annotations

import threading
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Protocol

    class RunningBlocks(Protocol):
        """The interface of `Blocks` for code that runs inside `fit`."""

        model: Any
        epoch_iterator: Any

        def group(self, epoch_iterator: Any, steps: Iterator[Any]) -> Iterator[Any]:
            """Yield the steps of an epoch, several at a time."""
            ...

        def run(self, function: Any, data: Any) -> Any:
            """Run one block, and return the outputs of its last step."""
            ...


__all__ = ["current_blocks", "running"]

_thread = threading.local()


def current_blocks() -> RunningBlocks | None:
    """Return the blocks of the innermost `fit` of this thread, or None."""
    return getattr(_thread, "blocks", None)


@contextmanager
def running(blocks: RunningBlocks | None) -> Iterator[None]:
    """Set the blocks of this thread temporarily; None excludes an evaluation from them."""
    outer = current_blocks()
    _thread.blocks = blocks
    try:
        yield
    finally:
        _thread.blocks = outer
