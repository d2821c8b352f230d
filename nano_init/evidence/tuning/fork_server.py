"""Processes that train: of their own, or forked from one that has imported TensorFlow."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass

from nano_init.errors import LateSampleError, SampleError
from nano_init.evidence.sampling.isolated_command import isolated_command, postpone_preload
from nano_init.evidence.sampling.sample import preparing, watch_request, watch_variables
from nano_init.protocol.programs import FORK_SERVER
from nano_init.protocol.variables import (
    DISABLE_VARIABLE,
    PATCH_VARIABLE,
    STATE_VARIABLE,
    WATCH_VARIABLE,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import BinaryIO, Protocol

    from nano_init.evidence.sampling.sample import SampleRequest

    class Process(Protocol):
        """What `subprocess.Popen` is, as far as a training needs it."""

        pid: int

        def kill(self) -> None:
            """End it."""

        def wait(self, timeout: float | None = None) -> object:
            """Wait until it has ended."""

        def poll(self) -> int | None:
            """Return its exit status, or None where it is not known."""


__all__ = ["ForkServer", "TrainingCommand", "start_process"]

# Read when a session, XLA or the patch starts, and not when TensorFlow is imported: each was
# seen to take effect in a training that was forked after the import.
_READ_LATE = frozenset(
    [
        *("TF_NUM_INTEROP_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_XLA_FLAGS"),
        *(DISABLE_VARIABLE, PATCH_VARIABLE, STATE_VARIABLE),
    ]
)


# A parent that has imported answers at once.
_ANSWER_SECONDS = 5.0

_LEGACY = "TF_USE_LEGACY_KERAS"


@dataclass(frozen=True)
class TrainingCommand:
    """A training to start.

    Args:
        argv: the interpreter's path and its arguments.
        environ: its whole environment.
        request: what to record.
        scratch: an empty folder.
        files: its standard input, and where its status, its output and its complaints go.
        pace: its ends of the two pipes, to read from and to write to.
    """

    argv: Sequence[str]
    environ: Mapping[str, str]
    request: SampleRequest
    scratch: str
    files: Sequence[BinaryIO]
    pace: tuple[int, int]


def start_process(wanted: TrainingCommand) -> subprocess.Popen[bytes]:
    """Start a training in a process of its own."""
    stdin, status, output, complaints = wanted.files
    return subprocess.Popen(
        isolated_command(wanted.argv, status.fileno(), wanted.scratch, wanted.request.megabytes),
        env=postpone_preload(
            {**wanted.environ, **watch_variables(wanted.request, -1, wanted.pace)}
        ),
        stdin=stdin,
        stdout=output,
        stderr=complaints,
        pass_fds=(status.fileno(), *wanted.pace),
        # Only the launcher receives Ctrl-C; it stops what the script starts.
        start_new_session=True,
    )


class ForkServer:
    """A process that has imported TensorFlow and Keras, and forks trainings.

    Args:
        python: the interpreter.
        environ: an environment of one of the trainings.

    Raises:
        SampleError: there is no room for its temporary files.
    """

    def __init__(self, python: str, environ: Mapping[str, str]) -> None:
        self._environ = dict(environ)
        with preparing():
            self._scratch = tempfile.TemporaryDirectory(prefix="nano-run-")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self._process = subprocess.Popen(
                [python, FORK_SERVER, str(theirs.fileno()), self._scratch.name],
                env={n: v for n, v in environ.items() if n not in (PATCH_VARIABLE, WATCH_VARIABLE)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._channel = ours
        self._is_lost = False

    def suits(self, environ: Mapping[str, str]) -> bool:
        """Say whether one can be forked: its environment differs in what is read late only."""
        if environ.get(_LEGACY) or environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
            return False  # another Keras than the one that was imported
        if "LD_PRELOAD" in environ:
            return False  # it may start threads, which no process with a user namespace may have
        if self._is_lost:  # its next answer belongs to an abandoned question
            return False
        names = {*self._environ, *environ} - _READ_LATE
        return all(self._environ.get(name) == environ.get(name) for name in names)

    def fork(self, wanted: TrainingCommand, seconds: float) -> Process:
        """Fork a training.

        Args:
            wanted: the training; `suits` its environment.
            seconds: how long to wait for the import.

        Raises:
            LateSampleError: there is no answer by then.
            SampleError: there will be none.
        """
        with preparing():
            payload = tempfile.TemporaryFile()  # noqa: SIM115
        with payload:
            message = {
                "arguments": list(wanted.argv[1:]),
                "environ": dict(wanted.environ),
                "scratch": wanted.scratch,
                "megabytes": wanted.request.megabytes,
                "request": watch_request(wanted.request, -1),
            }
            payload.write(json.dumps(message).encode())
            payload.flush()
            files = [payload.fileno(), *(file.fileno() for file in wanted.files), *wanted.pace]
            try:
                self._channel.settimeout(max(0.001, seconds))  # 0 would be no time-out at all
                socket.send_fds(self._channel, [b"fork"], files)
                answer = self._channel.recv(16)
            except TimeoutError as error:
                self._is_lost = True
                raise LateSampleError(
                    f"TensorFlow was still being imported when {seconds:.0f} seconds were over"
                ) from error
            except OSError as error:  # it has ended
                raise SampleError(f"no training could be forked: {error}") from error
        if not answer:
            raise SampleError("no training could be forked: TensorFlow cannot be imported")
        return _Forked(int(answer), self._status_of)

    def _status_of(self, pid: int) -> int | None:
        """Return the exit status of a training that has ended; None where it is not known."""
        if self._is_lost:
            return None
        try:
            self._channel.settimeout(_ANSWER_SECONDS)
            self._channel.send(str(pid).encode())
            answer = self._channel.recv(16)
        except TimeoutError:
            self._is_lost = True
            return None
        except OSError:  # it has ended
            return None
        return int(answer) if answer.strip(b"-").isdigit() else None

    def close(self) -> None:
        """End the process; trainings that it has forked end with it."""
        self._channel.close()
        self._process.kill()
        self._process.wait()
        self._scratch.cleanup()


class _Forked:
    """A process that another one is the parent of.

    Args:
        pid: its id.
        status_of: asks its parent for its exit status.
    """

    def __init__(self, pid: int, status_of: Callable[[int], int | None]) -> None:
        self.pid = pid
        self._status_of = status_of
        try:
            self._descriptor: int | None = os.pidfd_open(pid)
        except ProcessLookupError:  # it has ended already
            self._descriptor = None

    def kill(self) -> None:
        """End it."""
        if self._descriptor is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not by then.
        """
        if self._descriptor is None:
            return
        if not select.select([self._descriptor], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)

    def poll(self) -> int | None:
        """Return its exit status, which is its parent's to know; None where it is not known."""
        return self._status_of(self.pid)

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
