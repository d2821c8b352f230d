"""Run a program as a child process, and exit as it does.

`nano-run` replaces itself with the program where it can (`execute.py`). If something remains to be
done after the program's end, it stays and behaves as the program would: signals sent to it reach
the program, and its exit status, or the signal that ends it, is the program's.
"""

from __future__ import annotations

import os
import resource
import signal
import time

from nano_init.errors import LaunchError
from nano_init.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from nano_init.launch.command import Command

__all__ = ["ChildOutcome", "end_like", "run_in_foreground"]

# The signals to forward. SIGKILL and SIGSTOP cannot be caught. Job control reaches the program
# directly, because it is in the same process group.
_FORWARDED = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1),
    *(signal.SIGUSR2, signal.SIGALRM, signal.SIGWINCH, signal.SIGCONT),
)
_WATCHED = frozenset({*_FORWARDED, signal.SIGCHLD})

# Sent by the kernel, as for Ctrl-C, to the whole process group (sigaction(2), si_code).
_SI_KERNEL = 0x80


@frozen
class ChildOutcome:
    """How a program ended.

    Args:
        status: its exit status, or the negative number of the signal that ended it.
        seconds: how long it ran.
        usage: its resource usage, including its child processes.
    """

    status: int
    seconds: float
    usage: resource.struct_rusage


def run_in_foreground(
    command: Command,
    environ: Mapping[str, str],
    poll: Callable[[int], None],
    every: float = 1.0,
) -> ChildOutcome:
    """Run a command to its end, and forward the signals that this process receives.

    Args:
        command: the command to run.
        environ: this process's environment, to which the command's variables are added.
        poll: called at intervals with the program's process id.
        every: the interval in seconds.

    Raises:
        LaunchError: the interpreter cannot be started.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    try:
        return _await_end(_spawn(command, environ, before), poll, every)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _spawn(command: Command, environ: Mapping[str, str], mask: Iterable[int]) -> int:
    """Start a command with a mask of signals, and return its process id."""
    path = command.argv[0]
    try:
        return os.posix_spawn(path, command.argv, command.environment(environ), setsigmask=mask)
    except OSError as error:
        raise LaunchError(f"cannot start {path!r}: {error.strerror}") from error


def _await_end(child: int, poll: Callable[[int], None], every: float) -> ChildOutcome:
    """Wait for a child to end, while the watched signals are blocked."""
    due = start = time.monotonic()
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return ChildOutcome(code, time.monotonic() - start, usage)
        if time.monotonic() >= due:
            poll(child)
            due = time.monotonic() + every
        told = signal.sigtimedwait(_WATCHED, max(0.0, due - time.monotonic()))
        # The terminal has sent its signals to the program as well.
        if told and told.si_signo in _FORWARDED and told.si_code != _SI_KERNEL:
            os.kill(child, told.si_signo)


def end_like(outcome: ChildOutcome) -> int:
    """End this process with the signal that ended the program, or return its exit status.

    Args:
        outcome: how the program ended.
    """
    if outcome.status >= 0:
        return outcome.status
    number = -outcome.status
    # The program has dumped its core; a core of this process would be misleading.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number
