"""A worker that the launcher started, and how it ends."""

from __future__ import annotations

import contextlib
import os
import time

from nano_init.frozen import frozen
from nano_init.launch.signals import signal_name
from nano_init.protocol.worker_refusal import REFUSED, REFUSED_STATUS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    import subprocess
    from collections.abc import Sequence

    from nano_init.launch.output import Stream

__all__ = ["AttemptOutcome", "Worker"]


@frozen
class AttemptOutcome:
    """How an attempt ended.

    Args:
        status: the exit status of the attempt; 0 on success.
        sentence: what went wrong, or "".
        traceback: the end of the failed worker's output, if it was not shown.
        can_restart: whether another attempt may succeed: the user did not end this one.
    """

    status: int
    sentence: str = ""
    traceback: bytes = b""
    can_restart: bool = False


class Worker:
    """A running worker.

    Args:
        index: its index in the job.
        process: the process, which leads its own process group.
        status: the launcher's end of the connection to it.
        streams: its output streams that go through the launcher.
    """

    def __init__(
        self,
        index: int,
        process: subprocess.Popen[bytes],
        status: socket.socket,
        streams: Sequence[Stream],
    ) -> None:
        self.index = index
        self.process = process
        self.status = status
        self.streams = list(streams)
        self.joined = self.done = self.left = 0.0
        self.failed = self.ended = self.stopped = 0.0
        self.fault = ""
        self.ended_by = 0
        status.setblocking(False)

    @property
    def name(self) -> str:
        """Return its name in messages."""
        return f"worker {self.index} (process {self.process.pid})"

    @property
    def is_running(self) -> bool:
        """Say whether it is still running."""
        return self.process.returncode is None

    def signal(self, number: int) -> None:
        """Send a signal to the worker and its child processes."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def end_by(self, number: int) -> None:
        """End the worker with a signal after its time to exit by itself is over."""
        self.ended_by = number
        self.signal(number)

    @property
    def state(self) -> str:
        """Return the letter of the process's state, such as "T" for stopped; proc_pid_stat(5)."""
        try:
            with open(f"/proc/{self.process.pid}/stat", "rb") as file:
                return file.read().rpartition(b") ")[2][:1].decode()
        except OSError:
            return ""

    @property
    def outcome(self) -> AttemptOutcome:
        """Return how it ended."""
        status = self.process.returncode or 0
        if self.failed and self.ended_by and status == -self.ended_by:
            status = 1  # its exception was the failure: Python was still shutting down
        if self.fault == REFUSED:
            # The program may have caught the exit, and continued until it was killed.
            own = b"".join(stream.tail for stream in self.streams if not stream.is_shown)
            return AttemptOutcome(REFUSED_STATUS, traceback=own)
        traceback = b"".join(stream.tail for stream in self.streams if not stream.is_shown)
        if status < 0:
            sentence = f"{self.name} was killed by {signal_name(-status)}"
            return AttemptOutcome(128 - status, sentence, traceback, can_restart=True)
        # A worker whose output was shown printed its own error last.
        is_told = not status or (status < 128 and not any(not s.is_shown for s in self.streams))
        sentence = "" if is_told else f"{self.name} failed with exit status {status}"
        return AttemptOutcome(status, sentence, traceback, can_restart=bool(status))

    def hear(self) -> bool:
        """Read its reports to the launcher, and return whether more may follow."""
        try:
            data = self.status.recv(4096)
        except BlockingIOError:
            return True
        except OSError:
            return False
        for line in data.decode("ascii", "replace").splitlines():
            word, moment, fault = (line + "  ").split(" ", 2)
            if word in ("joined", "failed", "done") and moment.isdigit():
                setattr(self, word, int(moment) / 1e9)
                self.fault = fault.strip() or self.fault
        return bool(data)

    def drain(self) -> None:
        """Read the rest of its output after it ended."""
        for stream in self.streams:
            while stream.has_more():
                if not stream.pump():
                    break

    def leave(self) -> None:
        """Let a finished worker exit."""
        self.left = time.monotonic()
        with contextlib.suppress(OSError):
            self.status.send(b"go\n")

    def close(self) -> None:
        """Close the launcher's connections to it."""
        self.status.close()
        for stream in self.streams:
            stream.close()
