"""A guard process that cleans up if the launcher dies.

The launcher holds one end of a pipe, which closes when it dies, even by SIGKILL. The guard at the
other end then kills every worker with its child processes, and removes the scratch folder. If the
guard was killed first, the kernel still kills the workers (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time

__all__ = ["Guard"]

_GRACE_SECONDS = 1.0


class Guard:
    """The launcher's end.

    Args:
        scratch: a folder to remove when the launcher dies.
    """

    def __init__(self, scratch: str) -> None:
        read_end, self._write_end = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._write_end)
            try:
                _stand_guard(read_end, scratch)
            finally:
                os._exit(0)
        os.close(read_end)

    def watch(self, group: int) -> None:
        """Kill a process group if the launcher dies."""
        self._tell(f"+{group}\n")

    def forget(self, group: int) -> None:
        """Stop guarding a process group that has ended."""
        self._tell(f"-{group}\n")

    def dismiss(self) -> None:
        """End the guard; there is nothing left to watch."""
        self._tell("quit\n")
        os.close(self._write_end)
        os.waitpid(self._pid, 0)

    def _tell(self, line: str) -> None:
        try:
            os.write(self._write_end, line.encode())
        except BrokenPipeError:
            return  # killed; the workers' PR_SET_PDEATHSIG remains


def _stand_guard(read_end: int, scratch: str) -> None:
    os.setsid()
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(ignored, signal.SIG_IGN)
    _close_others(read_end)
    groups: set[int] = set()
    rest = b""
    while data := os.read(read_end, 65536):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line == b"quit":
                return
            number = int(line[1:])
            groups.add(number) if line[:1] == b"+" else groups.discard(number)
    for kill in (signal.SIGTERM, signal.SIGKILL):
        for group in groups:
            with contextlib.suppress(OSError):  # it has gone
                os.killpg(group, kill)
        time.sleep(_GRACE_SECONDS if kill is signal.SIGTERM else 0)
    shutil.rmtree(scratch, ignore_errors=True)


def _close_others(kept: int) -> None:
    """Close all inherited descriptors: a reader of the launcher's stdout must see EOF."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.closerange(3, kept)
    os.closerange(kept + 1, max(kept + 2, 4096))
