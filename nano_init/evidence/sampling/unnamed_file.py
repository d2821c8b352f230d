"""A file without a name, which goes with the last process that has it open."""

from __future__ import annotations

import os
import tempfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

__all__ = ["open_unnamed_file"]

_create_in_memory = getattr(os, "memfd_create", None)


def open_unnamed_file(
    purpose: str, create: Callable[[str], int] | None = _create_in_memory
) -> BinaryIO:
    """Open a file in memory where the system has such: a container may have no temporary folder.

    Args:
        purpose: what the system shows for its name (memfd_create(2)).
        create: opens one in memory; None where there is no such call, as on macOS.

    Raises:
        OSError: there is no temporary folder either.
    """
    if create is not None:
        try:
            return open(create(purpose), "r+b")
        except OSError:
            pass  # a seccomp filter may forbid it
    return tempfile.TemporaryFile()
