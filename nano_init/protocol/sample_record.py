"""The file that a watched process leaves its record in, and how it is known to be that file.

A descriptor is a number, and the number is the script's to close and to open again: what it
stands for is looked at each time before anything is written to it.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress

from nano_init.errors import SampleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

__all__ = [
    "ARRAYS",
    "PIPELINE",
    "PYTHON",
    "describe_record_file",
    "parse_record",
    "write_record",
]

# What the batches of a training come from.
PIPELINE, ARRAYS, PYTHON = "tf.data", "arrays", "Python"

# Of all that a watch writes, what is read again.
_FIELDS = frozenset({"started", "marks", "batch", "waited", "peak_kb", "signature"})

_DAMAGED = "the record of the steps is damaged: the script has written to its file"


def describe_record_file(descriptor: int) -> dict[str, Any]:
    """Return by what a watched process finds and knows the file for its record.

    Args:
        descriptor: the open file, which the process inherits; negative for none.
    """
    if descriptor < 0:
        return {"fd": descriptor}
    status = os.fstat(descriptor)
    return {
        "fd": descriptor,
        "file": [status.st_dev, status.st_ino],
        "origin": f"/proc/{os.getpid()}/fd/{descriptor}",
    }


def write_record(request: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Write a record to the file that is meant for it, and to no other.

    Args:
        request: as `describe_record_file` has described the file.
        record: what to write.

    Returns:
        Whether it was written; a script may have closed the file, or opened another in its
        place, and not be permitted to open the launcher's own.
    """
    if "file" not in request:
        return False
    content = json.dumps(record).encode()
    return any(_replace(file, request["file"], content) for file in _candidates(request))


def _replace(file: int, identity: Sequence[int], content: bytes) -> bool:
    """Replace what a file holds and close it; return False if it is another file."""
    try:
        status = os.fstat(file)
        if [status.st_dev, status.st_ino] != identity:
            return False
        os.ftruncate(file, 0)
        os.pwrite(file, content, 0)
    except OSError:
        return False
    finally:
        os.close(file)
    return True


def _candidates(request: Mapping[str, Any]) -> Iterator[int]:
    """Give descriptors of this process's own, so that none is exchanged after it was looked at."""
    with suppress(OSError):  # the script has closed it
        yield os.dup(request["fd"])
    with suppress(OSError):  # another user's process, or one of another user namespace
        yield os.open(request["origin"], os.O_RDWR | os.O_CLOEXEC)


def parse_record(text: bytes) -> dict[str, Any] | None:
    """Return the record that a file holds, or None if nothing was written.

    Args:
        text: all that the file holds; a script may have written to its descriptor, too.

    Raises:
        SampleError: it is no record.
    """
    if not text:
        return None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SampleError(_DAMAGED) from error
    if not (isinstance(record, dict) and record.keys() >= _FIELDS):
        raise SampleError(_DAMAGED)
    return record
