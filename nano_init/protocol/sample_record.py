"""The file to which an observed process writes its record, and how to identify it.

A script may close a descriptor and open another file under the same number. So the file's identity
is checked each time before anything is written.
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

# The sources of a training's batches.
PIPELINE, ARRAYS, PYTHON = "tf.data", "arrays", "Python"

# The entries of a record that are read.
_FIELDS = frozenset({"started", "marks", "batch", "waited", "peak_kb", "signature"})

_DAMAGED = "the record of the steps is damaged: the script has written to its file"


def describe_record_file(descriptor: int) -> dict[str, Any]:
    """Return how an observed process finds and identifies the file for its record.

    Args:
        descriptor: the open file that the process inherits; negative for none.
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
    """Write a record to its file, and to no other file.

    Args:
        request: the file, as `describe_record_file` describes it.
        record: the record.

    Returns:
        Whether it was written. A script may have closed the file, or opened another under the
        same number, and the launcher's own descriptor may be inaccessible.
    """
    if "file" not in request:
        return False
    content = json.dumps(record).encode()
    return any(_replace(file, request["file"], content) for file in _candidates(request))


def _replace(file: int, identity: Sequence[int], content: bytes) -> bool:
    """Replace the content of a file and close it; return False if it is another file."""
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
    """Yield private descriptors, so that none can be replaced after the check."""
    with suppress(OSError):  # the script closed it
        yield os.dup(request["fd"])
    with suppress(OSError):  # a process of another user, or in another user namespace
        yield os.open(request["origin"], os.O_RDWR | os.O_CLOEXEC)


def parse_record(text: bytes) -> dict[str, Any] | None:
    """Return the record that a file holds, or None if nothing was written.

    Args:
        text: the content of the file; a script may have written to its descriptor, too.

    Raises:
        SampleError: it is not a record.
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
