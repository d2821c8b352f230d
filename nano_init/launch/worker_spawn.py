"""Start one worker of a job: bound to its place, and unable to outlive the launcher."""

from __future__ import annotations

import os
import signal
import subprocess

from nano_init.errors import LaunchError
from nano_init.frozen import frozen
from nano_init.launch.binding import bind_memory, bind_threads
from nano_init.parent_death import parent_death_setter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nano_init.plan.placement import Place

    SetPolicy = Callable[[int, int], int]

__all__ = ["Descriptors", "WorkerCommand", "start_worker", "try_binding"]


@frozen
class WorkerCommand:
    """How to start one worker.

    Args:
        index: its index in the job.
        argv: its arguments, starting with the interpreter.
        environ: its complete environment.
        place: where it runs.
        is_bound: whether it is bound there.
    """

    index: int
    argv: tuple[str, ...]
    environ: Mapping[str, str]
    place: Place
    is_bound: bool


@frozen
class Descriptors:
    """The descriptors that a worker inherits.

    Args:
        stdin: its input.
        stdout: its output.
        stderr: its error output.
        status: its end of the connection to the launcher.
        memory: the shared memory of all workers; -1 without one.
        ring: the connections to the neighbouring hosts.
    """

    stdin: int
    stdout: int
    stderr: int
    status: int
    memory: int = -1
    ring: tuple[int, ...] = ()


def start_worker(
    command: WorkerCommand, given: Descriptors, set_policy: SetPolicy | None
) -> subprocess.Popen[bytes]:
    """Start a worker in its own session.

    Args:
        command: the worker.
        given: the descriptors that it inherits.
        set_policy: the function from `memory_binder`.

    Raises:
        LaunchError: the interpreter cannot be started.
    """
    try:
        return subprocess.Popen(
            command.argv,
            env=command.environ,
            stdin=given.stdin,
            stdout=given.stdout,
            stderr=given.stderr,
            pass_fds=[fd for fd in (given.status, given.memory, *given.ring) if fd >= 0],
            # The launcher has one thread, so no lock can be held here.
            preexec_fn=_preparation(command, set_policy),
        )
    except OSError as error:
        raise LaunchError(f"cannot start {command.argv[0]!r}: {error.strerror}") from error


def _preparation(command: WorkerCommand, set_policy: SetPolicy | None) -> Callable[[], None]:
    """Return the function that a worker's process runs before it executes the interpreter."""
    launcher = os.getpid()
    die_with_launcher = parent_death_setter(signal.SIGKILL)

    def prepare() -> None:
        os.setsid()
        die_with_launcher()
        # The launcher may have died before the previous line.
        if os.getppid() != launcher:
            os._exit(128 + signal.SIGKILL)
        if command.is_bound:
            bind_threads(command.place.cpus)
            bind_memory(command.place.nodes, set_policy)

    return prepare


def try_binding(place: Place, set_policy: SetPolicy | None) -> tuple[str, ...]:
    """Bind a temporary process to a place, and return one sentence for each failure."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answers = [bind_threads(place.cpus), bind_memory(place.nodes, set_policy)]
            os.write(write_end, "\n".join(filter(None, answers)).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as file:
        text = file.read().decode()
    os.waitpid(pid, 0)
    return tuple(text.splitlines())
