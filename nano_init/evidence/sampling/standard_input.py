"""A standard input that is empty, and by which it is known whether it was read.

Nothing in the process tells: reading at the end of a file moves nothing, and may happen in a
library or in another program that the script starts. But the system keeps the time of a file's
last reading, of an empty one's, too; here it is older than the last change, so that `relatime`
keeps it as well (mount(8)).
"""

from __future__ import annotations

import os

from nano_init.evidence.sampling.unnamed_file import open_unnamed_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["open_empty_input", "was_read"]

_LONG_AGO, _LATER = 0, 1


def open_empty_input() -> BinaryIO:
    """Open an empty file to be a process's standard input.

    Raises:
        OSError: there is no place for one.
    """
    file = open_unnamed_file("nano-run-stdin")
    os.utime(file.fileno(), ns=(_LONG_AGO, _LATER))
    return file


def was_read(file: BinaryIO) -> bool:
    """Say whether anything has tried to read it; never where its file system does not tell.

    Args:
        file: as `open_empty_input` gives it.
    """
    return os.fstat(file.fileno()).st_atime_ns != _LONG_AGO
