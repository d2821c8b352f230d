"""The launcher that a running script starts for one of its calls, and the workers' output.

The job runs as under `nano-run`, in a separate launcher process: a process with TensorFlow's
threads can neither fork a guard nor handle signals for others.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys

from nano_init.errors import LaunchError
from nano_init.protocol.call_job import write_job
from nano_init.protocol.programs import CALL_LAUNCHER, PACKAGE_PARENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import IO, TextIO

    from nano_init.protocol.call_job import CallJob

__all__ = ["run_processes"]


def run_processes(job: CallJob, environ: Mapping[str, str]) -> int:
    """Run a job to its end, and show its output as this process's own.

    Ctrl-C interrupts the workers; a second one kills them.

    Args:
        job: the job.
        environ: the environment to start it in.

    Returns:
        The exit status of the job.

    Raises:
        LaunchError: the interpreter cannot be started.
        KeyboardInterrupt: the user interrupted the job.
    """
    write_job(job)
    path = [*job.path, *([] if PACKAGE_PARENT in job.path else [PACKAGE_PARENT])]
    try:
        launcher = subprocess.Popen(
            [sys.executable, CALL_LAUNCHER, job.folder, *path],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # the terminal's Ctrl-C would arrive twice
        )
    except OSError as error:
        raise LaunchError(f"cannot start {sys.executable!r}: {error.strerror}") from error
    with launcher:
        return _attend(launcher)


def _attend(launcher: subprocess.Popen[bytes]) -> int:
    """Show the output until the launcher ends."""
    is_interrupted = False
    pumps = _Pumps(launcher)
    while True:
        try:
            pumps.run()
            status = launcher.wait()
            break
        except KeyboardInterrupt:
            is_interrupted = True
            launcher.send_signal(signal.SIGINT)
        except BaseException:
            launcher.terminate()
            raise
    if is_interrupted:
        raise KeyboardInterrupt
    return status


class _Pumps:
    """Copies the launcher's output to this process's, which may be a notebook's, not a file."""

    def __init__(self, launcher: subprocess.Popen[bytes]) -> None:
        import codecs

        decoder = codecs.getincrementaldecoder("utf-8")
        self._selector = selectors.DefaultSelector()
        for stream, shown in ((launcher.stdout, sys.stdout), (launcher.stderr, sys.stderr)):
            if stream is not None:
                data = (stream, shown, decoder("replace"))
                self._selector.register(stream, selectors.EVENT_READ, data)

    def run(self) -> None:
        """Show the output until both streams end."""
        while self._selector.get_map():
            for key, _ in self._selector.select():
                stream, shown, decoder = key.data
                data = os.read(stream.fileno(), 65536)
                _show(shown, decoder.decode(data, final=not data))
                if not data:
                    self._unregister(stream)
        self._selector.close()

    def _unregister(self, stream: IO[bytes]) -> None:
        self._selector.unregister(stream)


def _show(shown: TextIO | None, text: str) -> None:
    if shown is not None and text:
        shown.write(text)
        shown.flush()
