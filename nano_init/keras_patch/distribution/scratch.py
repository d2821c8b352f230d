"""Where a worker that is not the chief writes what the chief writes for all."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from nano_init.launch.membership import Membership

__all__ = ["own_place"]


@contextmanager
def own_place(path: Any, membership: Membership) -> Iterator[Any]:
    """Give the chief its path, and others one that is removed afterwards.

    Args:
        path: Where the script wants to write.
        membership: This worker's place in the job.
    """
    if membership.index == 0:
        yield path
        return
    with tempfile.TemporaryDirectory(dir=membership.scratch or None) as folder:
        yield os.path.join(folder, os.path.basename(os.fspath(path).rstrip("/")))
