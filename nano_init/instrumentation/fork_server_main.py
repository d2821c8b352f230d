"""Import TensorFlow and Keras once, and fork trainings from there.

    python fork_server_main.py SOCKET_FD SCRATCH

The imports take most of the time to a training's first step. They are the same for all
configurations that differ only in what is read later: when a session, XLA or the patch starts.
When a training is forked, no operation has run, so TensorFlow has not started threads that the
child would lose (fork(2) keeps only the calling thread). OpenBLAS has threads, but its own handlers
for forks (pthread_atfork(3)).

This process runs no code of the script, and writes nothing (Keras imports Matplotlib, which would
write a list of fonts). Each training isolates itself, as a training in a separate process does.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import sys
import tempfile
import time
from types import ModuleType

if __name__ == "__main__":
    # Do not import from this file's folder: its modules' names may clash with others.
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from nano_init.instrumentation.isolation_main import (
    REFUSED,
    forbid_writing,
    isolate,
)
from nano_init.parent_death import die_with_parent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["main"]

# Payload, stdin, status, stdout, stderr, commands, reports.
_DESCRIPTORS = 7


def main(descriptor: int, scratch: str) -> None:
    """Import, and fork a training for each message until the socket closes.

    Args:
        descriptor: a socket. The answer to a message with file descriptors is a process id. The
            answer to a process id is its exit status, as in `subprocess`, or "?" if it runs.
        scratch: an empty folder for temporary files.
    """
    die_with_parent(signal.SIGKILL)
    forbid_writing(scratch)
    tempfile.tempdir = scratch  # libraries fail to import if it is not writable
    import keras  # noqa: F401
    import tensorflow as tf  # noqa: F401

    import nano_init.instrumentation.watch
    import nano_init.keras_patch  # noqa: F401

    del sys.path[0]
    tempfile.tempdir = None
    with socket.socket(fileno=descriptor) as channel:
        while True:
            message, descriptors, _, _ = socket.recv_fds(channel, 16, _DESCRIPTORS)
            if not message:
                return
            if not descriptors:
                channel.send(_exit_status(int(message)).encode())
                continue
            process = os.fork()
            if process == 0:
                channel.close()
                _become(descriptors)
            for each in descriptors:
                os.close(each)
            channel.send(str(process).encode())


def _exit_status(process: int) -> str:
    try:
        ended, status = os.waitpid(process, os.WNOHANG)
    except ChildProcessError:  # asked for twice
        return "?"
    return str(os.waitstatus_to_exitcode(status)) if ended else "?"


def _become(descriptors: Sequence[int]) -> None:
    """Turn this process into the training that a message asks for; never return."""
    payload, stdin, status, output, complaints, words, reports = descriptors
    with open(payload, encoding="utf-8") as file:
        file.seek(0)
        wanted = json.load(file)
    os.setsid()
    die_with_parent(signal.SIGKILL)
    for number, each in enumerate((stdin, output, complaints)):
        os.dup2(each, number)
        os.close(each)
    try:
        isolate(wanted["scratch"], wanted["megabytes"])
    except OSError as error:
        os.write(status, f"{error.strerror} ({error.filename})".encode())
        os._exit(REFUSED)
    _run(wanted, [words, reports])


def _run(wanted: dict[str, Any], pace: list[int]) -> None:
    from nano_init.instrumentation.watch import note_status, start_watching
    from nano_init.patch import apply_from_launcher
    from nano_init.protocol.variables import PATCH_VARIABLE, STARTED_VARIABLE

    os.environ.clear()
    os.environ.update(wanted["environ"])
    os.environ[STARTED_VARIABLE] = repr(time.monotonic())
    try:
        apply_from_launcher(os.environ[PATCH_VARIABLE], "keras")
        start_watching({**wanted["request"], "pace": pace}, "keras")
        _run_program(wanted["arguments"])
    except SystemExit as error:
        note_status(_status_of(error))
    except BaseException:  # noqa: BLE001 - as the interpreter does at the end of a program
        sys.excepthook(*sys.exc_info())
        note_status(1)
    else:
        note_status(0)
    atexit._run_exitfuncs()
    os._exit(0)


def _status_of(error: SystemExit) -> int:
    """Return the exit status that Python would have; print a status that is not a number."""
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    print(error.code, file=sys.stderr)
    return 1


def _run_program(arguments: list[str]) -> None:
    """Run a program as `python ARGUMENTS` does, but in this process."""
    import runpy

    if arguments[0] == "-m":
        sys.argv = ["-m", *arguments[2:]]
        sys.modules["__main__"] = ModuleType("__main__")
        sys.path.insert(0, os.getcwd())
        # Python itself calls this for -m; the public `run_module` does not set sys.argv[0].
        runpy._run_module_as_main(arguments[1])  # type: ignore[attr-defined]
        return
    path, *rest = arguments[1:] if arguments[0] == "--" else arguments
    sys.argv = [path, *rest]
    sys.path.insert(0, os.path.dirname(os.path.realpath(path)))
    runpy.run_path(path, run_name="__main__")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
