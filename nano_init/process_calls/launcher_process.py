"""Workers that a running script starts for one of its calls, and what becomes of their output.

The job is `nano-run`'s own, in a launcher of its own beside the script: a process with
TensorFlow's threads can neither fork a guard nor take signals for others.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys

from nano_init.errors import LaunchError
from nano_init.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import IO, TextIO

__all__ = ["Job", "read_job", "run_processes", "said_path", "tie_to_parent"]

_PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_START = (
    "import sys; sys.path[:] = sys.argv[2:]; from nano_init.run.call_job_main import main; "
    "sys.exit(main(sys.argv[1]))"
)
_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


@frozen
class Job:
    """What the launcher and its workers are told.

    Args:
        folder: where the call lies, and its outcome.
        workers: how many there shall be.
        program: the script that each worker runs, with the folder as its argument.
        parent: the process id of the script that wants them.
        path: the script's `sys.path`.
        argv: the script's `sys.argv`.
        patch: the keyword arguments of `patch_tensorflow` that are in force.
    """

    folder: str
    workers: int
    program: str
    parent: int
    path: tuple[str, ...]
    argv: tuple[str, ...]
    patch: Mapping[str, object]


def run_processes(job: Job, environ: Mapping[str, str]) -> int:
    """Run a job to its end; its output is shown as this process's own.

    Ctrl-C interrupts the workers; a second one kills them.

    Args:
        job: the job.
        environ: the environment to start it in.

    Returns:
        The exit status of the job.

    Raises:
        LaunchError: the interpreter cannot be started.
        KeyboardInterrupt: the user has ended the job.
    """
    with open(_job_path(job.folder), "w", encoding="utf-8") as file:
        json.dump(vars(job), file)
    path = [*job.path, *([] if _PACKAGE_PARENT in job.path else [_PACKAGE_PARENT])]
    try:
        launcher = subprocess.Popen(
            [sys.executable, "-c", _START, job.folder, *path],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # the terminal's Ctrl-C would come twice
        )
    except OSError as error:
        raise LaunchError(f"cannot start {sys.executable!r}: {error.strerror}") from error
    with launcher:
        return _attend(launcher)


def read_job(folder: str) -> Job:
    """Return the job that was written into a folder."""
    with open(_job_path(folder), encoding="utf-8") as file:
        fields = json.load(file)
    fields["path"], fields["argv"] = tuple(fields["path"]), tuple(fields["argv"])
    return Job(**fields)


def said_path(folder: str) -> str:
    """Return the file in which the launcher says what went wrong."""
    return os.path.join(folder, "said")


def tie_to_parent(parent: int) -> None:
    """Have this process asked to end when the script that started it has.

    Args:
        parent: the script's process id.
    """
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGTERM)


def _job_path(folder: str) -> str:
    return os.path.join(folder, "job.json")


def _attend(launcher: subprocess.Popen[bytes]) -> int:
    """Show what comes until the launcher has ended."""
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
    """Shows the launcher's output on this process's, which need be no file: a notebook's."""

    def __init__(self, launcher: subprocess.Popen[bytes]) -> None:
        import codecs

        decoder = codecs.getincrementaldecoder("utf-8")
        self._selector = selectors.DefaultSelector()
        for stream, shown in ((launcher.stdout, sys.stdout), (launcher.stderr, sys.stderr)):
            if stream is not None:
                data = (stream, shown, decoder("replace"))
                self._selector.register(stream, selectors.EVENT_READ, data)

    def run(self) -> None:
        """Show what comes until both streams have ended."""
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
