"""A worker's output: shown, shown with the worker's index, logged, or both."""

from __future__ import annotations

import os
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["Stream"]

_TAIL_BYTES = 64 * 1024


class Stream:
    """One of a worker's output streams, as it arrives through a pipe.

    Args:
        fd: the pipe's read end.
        shown_on: the descriptor to show it on; -1 for nowhere.
        prefix: the prefix of each line that is shown; "" shows the bytes unchanged.
        log: the file to log to, or None.
    """

    def __init__(self, fd: int, shown_on: int, prefix: str, log: BinaryIO | None) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self._shown_on = shown_on
        self._prefix = prefix.encode()
        self._log = log
        self._line = b""
        self._tail = bytearray()

    @property
    def tail(self) -> bytes:
        """Return the last part of the output."""
        return bytes(self._tail)

    @property
    def is_shown(self) -> bool:
        """Say whether the output was shown as it arrived."""
        return self._shown_on >= 0

    def has_more(self) -> bool:
        """Say whether there is unread output."""
        return bool(select.select([self.fd], [], [], 0)[0])

    def pump(self) -> bool:
        """Read what has arrived, and return whether more may follow."""
        try:
            data = os.read(self.fd, 65536)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            if self._line:
                self._show(b"\n")
            return False
        self._tail += data
        del self._tail[:-_TAIL_BYTES]
        if self._log is not None:
            self._log.write(data)
        self._show(data)
        return True

    def close(self) -> None:
        """Close the pipe; what the worker's children write after its end is discarded."""
        os.close(self.fd)

    def _show(self, data: bytes) -> None:
        if self._shown_on < 0:
            return
        if not self._prefix:
            _write(self._shown_on, data)
            return
        *lines, self._line = (self._line + data).split(b"\n")
        # A progress bar overwrites itself with carriage returns: its last state is enough.
        shown = [self._prefix + line.rstrip(b"\r").rpartition(b"\r")[2] + b"\n" for line in lines]
        _write(self._shown_on, b"".join(shown))


def _write(descriptor: int, data: bytes) -> None:
    sys.stdout.flush()
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        return  # a closed reader must not end the job
