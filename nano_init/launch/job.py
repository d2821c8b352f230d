"""Run a script as the workers of a job, and start it anew where that is asked for."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import socket
import sys
import tempfile

from nano_init.errors import LaunchError
from nano_init.frozen import frozen
from nano_init.launch.binding import memory_binder
from nano_init.launch.guard import Guard
from nano_init.launch.output import Stream
from nano_init.launch.peers import Peers
from nano_init.launch.ports import HeldPort
from nano_init.launch.rendezvous import Host, meet
from nano_init.launch.supervision import Supervisor
from nano_init.launch.worker import Worker
from nano_init.launch.worker_process import WorkerCommand, start_worker, try_binding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nano_init.launch.rendezvous import Meeting
    from nano_init.launch.target import Target
    from nano_init.launch.worker import Outcome
    from nano_init.plan.placement import Placement

__all__ = ["Job", "Seat", "digest_target", "run_job"]

_TRACEBACK_LINES = 100


@frozen
class Seat:
    """All that distinguishes one worker's command from another's.

    Args:
        local: its number on this host.
        index: its number in the job.
        addresses: all workers' addresses.
        seed: where unseeded random numbers start on all workers.
        status_fd: the descriptor to tell the launcher by.
        scratch: a folder for what only the chief's copy of is kept.
        restarts: how often the job has been started anew.
    """

    local: int
    index: int
    addresses: tuple[str, ...]
    seed: int
    status_fd: int
    scratch: str
    restarts: int


@frozen
class Job:
    """A job on this host.

    Args:
        target: the program.
        placement: where this host's workers run.
        prepare: from a worker's seat to its arguments and its whole environment.
        rank: this host's number.
        hosts: how many there are.
        master: the address of host 0.
        port: the port of the launcher there.
        facts: what must be the same on all hosts.
        start_timeout: seconds to wait for workers and hosts.
        max_restarts: how often to start anew.
        log_dir: a folder for each worker's output; "" for none.
        tee: show every worker's output.
        say: how to tell the user something.
    """

    target: Target
    placement: Placement
    prepare: Callable[[Seat], tuple[tuple[str, ...], Mapping[str, str]]]
    rank: int
    hosts: int
    master: str
    port: int
    facts: Mapping[str, str]
    start_timeout: int
    max_restarts: int
    log_dir: str
    tee: bool
    say: Callable[[str], None]


def run_job(job: Job) -> int:
    """Run a job to its end on this host.

    Returns:
        The exit status: 0, that of the first worker that failed (128 and the number for a
        signal), or 128 and the number of the signal that ended the job.

    Raises:
        LaunchError: the workers, or the other hosts, cannot be brought together.
    """
    scratch = tempfile.mkdtemp(prefix="nano-run-")
    guard = Guard(scratch)
    try:
        if job.log_dir:
            _make_log_dir(job.log_dir)
        script = _keep_stdin(job.target, scratch)
        set_policy = memory_binder(os.uname().machine)
        if job.placement.is_exclusive:
            for sentence in try_binding(job.placement.places[0], set_policy):
                job.say(f"warning: {sentence}")
        outcome = _run_attempts(job, guard, scratch, script, set_policy)
    finally:
        guard.dismiss()
        shutil.rmtree(scratch, ignore_errors=True)
    return outcome.status


def digest_target(target: Target) -> str:
    """Return what tells two versions of a program apart.

    Args:
        target: the program; of a module or a folder only the name is compared.
    """
    if target.is_module or target.name == "-" or not os.path.isfile(target.name):
        return target.name
    with open(target.name, "rb") as file:
        return f"{os.path.basename(target.name)} ({hashlib.sha256(file.read()).hexdigest()[:12]})"


def _run_attempts(
    job: Job,
    guard: Guard,
    scratch: str,
    script: str,
    set_policy: Callable[[int, int], int] | None,
) -> Outcome:
    restarts = 0
    while True:
        outcome = _run_attempt(job, guard, scratch, script, set_policy, restarts)
        _report(job, outcome)
        if not outcome.status or not outcome.can_restart or restarts >= job.max_restarts:
            return outcome
        restarts += 1
        job.say(f"starting the job anew, {restarts} of {job.max_restarts} times")


def _run_attempt(
    job: Job,
    guard: Guard,
    scratch: str,
    script: str,
    set_policy: Callable[[int, int], int] | None,
    restarts: int,
) -> Outcome:
    with contextlib.ExitStack() as stack:
        ports = [HeldPort() for _ in job.placement.places]
        for port in ports:
            stack.callback(port.close)
        host = Host(
            rank=job.rank,
            count=job.hosts,
            master=job.master,
            port=job.port,
            ports=tuple(port.number for port in ports),
            facts=job.facts,
            shared={"seed": secrets.randbits(31)},
        )
        meeting = meet(host, job.start_timeout)
        for link in meeting.links:
            stack.callback(link.close)
        workers: list[Worker] = []
        try:
            for local in range(len(ports)):
                workers.append(
                    _start(job, meeting, local, scratch, script, set_policy, restarts, stack)
                )
        except BaseException:
            for worker in workers:
                worker.process.kill()
            raise
        peers = Peers(meeting.links, is_first=job.rank == 0)
        return Supervisor(workers, guard, job.start_timeout, peers).run()


def _start(
    job: Job,
    meeting: Meeting,
    local: int,
    scratch: str,
    script: str,
    set_policy: Callable[[int, int], int] | None,
    restarts: int,
    stack: contextlib.ExitStack,
) -> Worker:
    index = meeting.first + local
    ours, theirs = socket.socketpair()
    own = os.path.join(scratch, str(index))
    os.makedirs(own, exist_ok=True)
    argv, environ = job.prepare(
        Seat(
            local,
            index,
            meeting.addresses,
            int(meeting.shared["seed"]),
            theirs.fileno(),
            own,
            restarts,
        )
    )
    command = WorkerCommand(
        index, argv, environ, job.placement.places[local], job.placement.is_exclusive
    )
    stdin = os.open(script or os.devnull, os.O_RDONLY)
    stdout, stderr, streams, opened = _open_output(job, index, stack)
    try:
        process = start_worker(command, stdin, stdout, stderr, theirs, set_policy)
    finally:
        theirs.close()
        for descriptor in (stdin, *opened):
            os.close(descriptor)
    return Worker(index, process, ours, streams)


def _open_output(
    job: Job, index: int, stack: contextlib.ExitStack
) -> tuple[int, int, list[Stream], list[int]]:
    """Return a worker's stdout and stderr, their other ends, and what is to be closed here."""
    is_chief = index == 0
    if is_chief and not job.tee and not job.log_dir:
        return 1, 2, [], []
    log = None
    if job.log_dir:
        path = os.path.join(job.log_dir, f"worker-{index}.log")
        log = stack.enter_context(open(path, "ab", buffering=0))
    prefix = f"[{index}] " if job.tee else ""
    is_shown = is_chief or job.tee
    streams, written = [], []
    for descriptor in (1, 2):
        if descriptor == 1 and log is None and not is_shown:
            written.append(os.open(os.devnull, os.O_WRONLY))
            continue
        read_end, write_end = os.pipe()
        streams.append(Stream(read_end, descriptor if is_shown else -1, prefix, log))
        written.append(write_end)
    return written[0], written[1], streams, written


def _make_log_dir(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise LaunchError(f"--log-dir {path!r} cannot be made: {error.strerror}") from error
    if not os.access(path, os.W_OK):
        raise LaunchError(f"--log-dir {path!r} cannot be written; choose another folder")


def _keep_stdin(target: Target, scratch: str) -> str:
    """Return a file with the program where it comes from stdin, for every worker to read."""
    if target.name != "-" or target.is_module:
        return ""
    path = os.path.join(scratch, "stdin")
    with open(path, "wb") as file:
        file.write(sys.stdin.buffer.read())
    return path


def _report(job: Job, outcome: Outcome) -> None:
    lines: Sequence[bytes] = outcome.traceback.splitlines(keepends=True)[-_TRACEBACK_LINES:]
    if outcome.sentence:
        job.say(outcome.sentence + ("; the end of what it wrote:" if lines else ""))
    if lines and sys.stderr is not None:
        sys.stderr.flush()
        sys.stderr.buffer.write(b"".join(lines))
        sys.stderr.flush()
