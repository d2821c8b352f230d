"""Unpack a recorded machine, FILE.tar.gz, without trusting what is in it."""

from __future__ import annotations

import os
from contextlib import contextmanager

from nano_init.errors import RecordingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterator

__all__ = ["extracted"]

# A recording of the largest machine that Linux runs on takes about 20 MB unpacked.
_MOST_BYTES = 1 << 28


@contextmanager
def extracted(path: str) -> Iterator[str]:
    """Unpack a recording into a temporary folder, and return the folder that represents "/".

    Raises:
        RecordingError: the file is no archive, or holds what a recording must not.
    """
    import tarfile
    import tempfile
    import zlib

    with tempfile.TemporaryDirectory(prefix="nano-init-") as folder:
        try:
            with tarfile.open(path) as archive:
                _extract(archive, folder)
        except tarfile.ReadError as error:
            raise RecordingError(
                f"{path} is not a recording: it is not an archive; record one with nano-init "
                "--record FILE.tar.gz"
            ) from error
        except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as error:
            raise RecordingError(f"{path} is not a recording: {error}") from error
        entries = os.listdir(folder)
        inner = os.path.join(folder, entries[0]) if len(entries) == 1 else folder
        is_wrapped = len(entries) == 1 and entries[0] not in ("proc", "sys", "cpuinfo")
        yield inner if is_wrapped and os.path.isdir(inner) else folder


def _extract(archive: tarfile.TarFile, folder: str) -> None:
    """Unpack regular files and folders; links, devices and paths that lead out are refused."""
    size = 0
    for member in archive:
        size += member.size
        if size > _MOST_BYTES:
            raise ValueError(f"it holds more than {_MOST_BYTES >> 20} MB")
        target = os.path.normpath(os.path.join(folder, member.name))
        if not (target + "/").startswith(folder + "/"):
            raise ValueError(f"{member.name!r} leads out of it")
        if member.isdir():
            os.makedirs(target, exist_ok=True)
        elif member.isfile():
            os.makedirs(os.path.dirname(target), exist_ok=True)
            source = archive.extractfile(member)
            with open(target, "wb") as file:
                file.write(source.read() if source else b"")
