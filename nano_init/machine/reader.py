"""Read the small files of /proc and /sys under a root, tolerantly, and keep a log."""

from __future__ import annotations

import os
from errno import EISDIR, ENODEV, ENOENT, ENOTDIR

from nano_init.machine.cpulist import parse_cpu_list, parse_cpu_mask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    _T = TypeVar("_T")

__all__ = ["Reader", "parse_number"]

# /proc/cpuinfo takes about 1.6 KB a hardware thread: 13 MB for the most that Linux runs on.
_MOST_BYTES = 1 << 25
_PAGE = 1 << 12
_CHUNK = 1 << 16
# What a file that this kernel does not have answers; offline processors answer ENODEV.
_ABSENT = frozenset([ENOENT, ENOTDIR, ENODEV])


class Reader:
    """The files under one root.

    A file that does not exist gives no warning: None. A file that exists and cannot be read or
    understood adds one sentence to `warnings`, and is None as well.

    Args:
        root: the folder that stands for "/".

    Attributes:
        warnings: one sentence for each broken file, in the order of reading.
        log: (path, text) of each file looked for; the text is None where there is none.
        listed: the folders whose entries were listed, with the numbered entries found.
    """

    def __init__(self, root: str = "/") -> None:
        self.root = root
        self.warnings: list[str] = []
        self.log: dict[str, str | None] = {}
        self.listed: dict[str, tuple[str, ...]] = {}
        self._prefix = root if root.endswith("/") else root + "/"
        # Links in a recording must not lead to the files of the machine it is read on.
        self._inside = "" if self.live else os.path.realpath(root).rstrip("/") + "/"

    @property
    def live(self) -> bool:
        """Tell whether the root is this computer itself, not a recording."""
        return self.root == "/"

    def text(self, path: str) -> str | None:
        """Return the file's text without blanks at its ends, or None.

        Args:
            path: the path below the root, without a leading slash.
        """
        if path in self.log:
            return self.log[path]
        said: str | None = None
        try:
            said = self._read(path).decode("utf-8", "replace").strip(" \t\r\n\0")
        except OSError as error:
            if error.errno not in _ABSENT:
                self.doubt(path, _explain(error))
        except ValueError as error:  # a NUL byte in a path that another file named
            self.doubt(path, str(error))
        self.log[path] = said
        return said

    def number(self, path: str) -> int | None:
        """Return the whole number in the file, or None."""
        return self._parsed(path, parse_number)

    def cpus(self, path: str) -> tuple[int, ...] | None:
        """Return the processors of the list in the file, or None."""
        return self._parsed(path, parse_cpu_list)

    def masked_cpus(self, path: str) -> tuple[int, ...] | None:
        """Return the processors of the hexadecimal mask in the file, or None."""
        return self._parsed(path, parse_cpu_mask)

    def cpu_set(self, *paths: str) -> tuple[int, ...] | None:
        """Return the processors in the first of the files that can be read.

        Args:
            paths: files that say the same; lists end in "list" or "cpus", others are masks.
        """
        for path in paths:
            is_list = path.endswith(("list", "/cpus"))
            found = self.cpus(path) if is_list else self.masked_cpus(path)
            if found is not None:
                return found
        return None

    def numbered(self, folder: str, stem: str) -> tuple[int, ...]:
        """Return N of each entry of the folder that is called STEM followed by N, ascending."""
        try:
            names = os.listdir(self._prefix + folder)
        except (OSError, ValueError):
            names = []
        tails = [name[len(stem) :] for name in names if name.startswith(stem)]
        found = sorted(int(t) for t in tails if t.isascii() and t.isdigit() and len(t) < 10)
        self.listed[folder] = tuple(f"{stem}{n}" for n in found)
        return tuple(found)

    def doubt(self, path: str, why: str) -> None:
        """Add a warning about a file that cannot be understood."""
        warning = f"{self._prefix}{path} is ignored: {why}"
        if warning not in self.warnings:
            self.warnings.append(warning)

    def _parsed(self, path: str, parse: Callable[[str], _T]) -> _T | None:
        said = self.text(path)
        if said is None:
            return None
        try:
            return parse(said)
        except ValueError as error:
            self.doubt(path, str(error))
            return None

    def _read(self, path: str) -> bytes:
        # O_NONBLOCK: a pipe among a recording's files must not stop the program.
        handle = os.open(self._prefix + path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if self._inside:
                self._check_inside(handle, path)
            chunks = [os.read(handle, _PAGE)]
            size = len(chunks[0])
            # A short read is not the end of the file: /proc returns as many whole records as fit
            # into a page (fs/seq_file.c), for /proc/cpuinfo two or three processors at a time.
            while chunks[-1] and size < _MOST_BYTES:
                chunks.append(os.read(handle, _CHUNK))
                size += len(chunks[-1])
            return b"".join(chunks)
        finally:
            os.close(handle)

    def _check_inside(self, handle: int, path: str) -> None:
        try:
            real = os.readlink(f"/proc/self/fd/{handle}")
        except OSError:
            real = os.path.realpath(self._prefix + path)
        if not real.startswith(self._inside):
            raise PermissionError(f"it leads out of the recording, to {real}")


def parse_number(text: str) -> int:
    """Return the whole number that the text is.

    Raises:
        ValueError: the text is not a whole number of at most 20 digits.
    """
    digits = text.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) <= 20:
        return int(text)
    shown = text if len(text) <= 40 else text[:40] + "…"
    raise ValueError(f"{shown!r} is not a whole number")


def _explain(error: OSError) -> str:
    if error.errno == EISDIR:
        return "it is a folder"
    return error.strerror.lower() if error.strerror else str(error)
