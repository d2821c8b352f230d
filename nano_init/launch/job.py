"""Run a script as the workers of a job, and restart it if requested."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import sys
import tempfile

from nano_init.errors import HostLostError, LaunchError
from nano_init.frozen import frozen
from nano_init.launch.binding import memory_binder
from nano_init.launch.guard import Guard
from nano_init.launch.job_secret import JobSecret
from nano_init.launch.job_supervisor import Supervisor
from nano_init.launch.output import Stream
from nano_init.launch.peers import Peers
from nano_init.launch.ports import HeldPort
from nano_init.launch.rendezvous import Host, meet
from nano_init.launch.running_worker import AttemptOutcome, Worker
from nano_init.launch.shared_memory import create_shared_memory
from nano_init.launch.worker_spawn import (
    Descriptors,
    WorkerCommand,
    start_worker,
    try_binding,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nano_init.launch.rendezvous import Meeting
    from nano_init.plan.placement import Placement
    from nano_init.protocol.target import Target

__all__ = ["TAIL_FOLLOWS", "Job", "Seat", "run_job"]

_TRACEBACK_LINES = 100

# Appended to a sentence if the end of a worker's output follows it on stderr.
TAIL_FOLLOWS = "; the end of its output:"


@frozen
class Seat:
    """Everything that distinguishes one worker's command from another's.

    Args:
        local: its local rank on this host.
        index: its index in the job.
        addresses: all workers' addresses.
        seed: the seed of unseeded random numbers on all workers.
        status_fd: the descriptor for reports to the launcher.
        scratch: a folder for files of which only the chief's copy is kept.
        restarts: the number of restarts of the job.
        memory_fd: the descriptor of the shared memory of this host's workers; -1 without one.
        hosts: the number of hosts whose workers all-reduce among themselves first; 0 if they do
            not.
        ring: for the host's first worker, the descriptors of the connections from the host before
            this one and to the host after it; () without them.
    """

    local: int
    index: int
    addresses: tuple[str, ...]
    seed: int
    status_fd: int
    scratch: str
    restarts: int
    memory_fd: int = -1
    hosts: int = 1
    ring: tuple[int, ...] = ()


@frozen
class Job:
    """A job on this host.

    Args:
        target: the program.
        placement: where this host's workers run.
        prepare: returns a worker's arguments and its complete environment for its seat.
        rank: the rank of this host.
        hosts: the number of hosts.
        master: the address of host 0.
        port: the port of the launcher on host 0.
        facts: what must be the same on all hosts.
        start_timeout: seconds to wait for workers and hosts.
        max_restarts: the maximum number of restarts.
        log_dir: a folder for the workers' output; "" for none.
        tee: whether to show every worker's output.
        say: prints a sentence to the user.
        shares_memory: whether the workers of one host may share memory.
        program: the source of a program from stdin, otherwise None.
        secret: the secret by which the launchers of the hosts authenticate each other.
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
    shares_memory: bool = True
    program: bytes | None = None
    secret: JobSecret = JobSecret()


def run_job(job: Job) -> int:
    """Run a job to its end on this host.

    Returns:
        The exit status: 0, that of the first worker that failed (128 plus the number for a
        signal), or 128 plus the number of the signal that ended the job.

    Raises:
        LaunchError: the workers, or the other hosts, cannot join the job.
    """
    if job.log_dir:
        _make_log_dir(job.log_dir)
    scratch = tempfile.mkdtemp(prefix="nano-run-")
    guard = Guard(scratch)
    try:
        launcher = _Launcher(job, guard, scratch, _keep_program(job.program, scratch))
        launcher.warn_of_bindings()
        return launcher.run().status
    finally:
        guard.dismiss()
        shutil.rmtree(scratch, ignore_errors=True)


class _Launcher:
    """Runs the attempts of a job.

    Args:
        job: the job.
        guard: cleans up if the launcher is killed.
        scratch: a folder for temporary files.
        script: the file with a program from stdin, otherwise "".
    """

    def __init__(self, job: Job, guard: Guard, scratch: str, script: str) -> None:
        self._job = job
        self._guard = guard
        self._scratch = scratch
        self._script = script
        self._set_policy = memory_binder(os.uname().machine)
        self._restarts = 0

    def warn_of_bindings(self) -> None:
        """Try out the workers' bindings, and report to the user what is not permitted."""
        placement = self._job.placement
        if placement.is_exclusive:
            for sentence in try_binding(placement.places[0], self._set_policy):
                self._job.say(f"warning: {sentence}")

    def run(self) -> AttemptOutcome:
        """Run the job, with up to the maximum number of restarts."""
        while True:
            outcome = self._run_attempt()
            _report(self._job, outcome)
            is_last = self._restarts >= self._job.max_restarts
            if not outcome.status or not outcome.can_restart or is_last:
                return outcome
            self._restarts += 1
            self._job.say(self._tell_restart())

    def _tell_restart(self) -> str:
        job = self._job
        sentence = f"restarting the job ({self._restarts} of {job.max_restarts})"
        if job.hosts == 1:
            return sentence
        return f"{sentence} once all hosts are there, for {job.start_timeout} s (--start-timeout)"

    def _run_attempt(self) -> AttemptOutcome:
        job = self._job
        with contextlib.ExitStack() as stack:
            ports = [HeldPort() for _ in job.placement.places]
            for port in ports:
                stack.callback(port.close)
            memory_fd = self._make_memory(stack)
            try:
                meeting = self._meet(tuple(port.number for port in ports), memory_fd)
            except HostLostError as error:
                return AttemptOutcome(error.exit_code, str(error), can_restart=True)
            for link in meeting.links:
                stack.callback(link.close)
            for connection in meeting.ring:
                stack.callback(connection.close)
            memory_fd = memory_fd if meeting.sums_on_hosts else -1
            workers: list[Worker] = []
            try:
                workers.extend(self._start(meeting, n, memory_fd, stack) for n in range(len(ports)))
            except BaseException:
                for worker in workers:
                    worker.process.kill()
                raise
            for connection in meeting.ring:
                connection.close()  # so that it ends with the worker that has inherited it
            peers = Peers(meeting.links, is_first=job.rank == 0)
            return Supervisor(workers, self._guard, job.start_timeout, peers).run()

    def _make_memory(self, stack: contextlib.ExitStack) -> int:
        """Return a descriptor of new shared memory for an attempt's workers, or -1."""
        count = len(self._job.placement.places)
        if count == 1 or not self._job.shares_memory:
            return -1
        descriptor = create_shared_memory(count)
        if descriptor >= 0:
            stack.callback(os.close, descriptor)
        return descriptor

    def _meet(self, ports: tuple[int, ...], memory_fd: int) -> Meeting:
        job = self._job
        host = Host(
            rank=job.rank,
            count=job.hosts,
            master=job.master,
            port=job.port,
            ports=ports,
            facts=job.facts,
            seed=secrets.randbits(31),
            restarts=self._restarts,
            sums_here=job.shares_memory and (memory_fd >= 0 or len(ports) == 1),
            secret=job.secret,
            say=job.say,
        )
        meeting = meet(host, job.start_timeout)
        self._restarts = meeting.restarts
        return meeting

    def _start(
        self, meeting: Meeting, local: int, memory_fd: int, stack: contextlib.ExitStack
    ) -> Worker:
        index = meeting.first + local
        scratch = os.path.join(self._scratch, str(index))
        os.makedirs(scratch, exist_ok=True)
        ours, theirs = socket.socketpair()
        seat = Seat(
            local,
            index,
            meeting.addresses,
            meeting.seed,
            theirs.fileno(),
            scratch,
            self._restarts,
            memory_fd,
            self._job.hosts if meeting.sums_on_hosts else 0,
            () if local else tuple(connection.fileno() for connection in meeting.ring),
        )
        argv, environ = self._job.prepare(seat)
        placement = self._job.placement
        command = WorkerCommand(
            index, argv, environ, placement.places[local], placement.is_exclusive
        )
        output = _open_output(self._job, index, stack)
        stdin = os.open(self._script or os.devnull, os.O_RDONLY)
        try:
            ends = (stdin, output.stdout, output.stderr, theirs.fileno())
            given = Descriptors(*ends, memory_fd, seat.ring)
            process = start_worker(command, given, self._set_policy)
        finally:
            theirs.close()
            for descriptor in (stdin, *output.opened):
                os.close(descriptor)
        return Worker(index, process, ours, output.streams)


@frozen
class _Output:
    """A worker's output descriptors, the launcher's streams from them, and what to close here."""

    stdout: int
    stderr: int
    streams: tuple[Stream, ...] = ()
    opened: tuple[int, ...] = ()


def _open_output(job: Job, index: int, stack: contextlib.ExitStack) -> _Output:
    is_chief = index == 0
    if is_chief and not job.tee and not job.log_dir:
        return _Output(1, 2)
    log = None
    if job.log_dir:
        path = os.path.join(job.log_dir, f"worker-{index}.log")
        log = open(path, "ab", buffering=0)  # noqa: SIM115 - closed with the attempt
        stack.callback(log.close)
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
    return _Output(written[0], written[1], tuple(streams), tuple(written))


def _make_log_dir(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise LaunchError(f"--log-dir {path!r} cannot be created: {error.strerror}") from error
    if not os.access(path, os.W_OK):
        raise LaunchError(f"--log-dir {path!r} cannot be written; choose another folder")


def _keep_program(program: bytes | None, scratch: str) -> str:
    """Return a file with the program from stdin, for every worker to read."""
    if program is None:
        return ""
    path = os.path.join(scratch, "stdin")
    with open(path, "wb") as file:
        file.write(program)
    return path


def _report(job: Job, outcome: AttemptOutcome) -> None:
    lines: Sequence[bytes] = outcome.traceback.splitlines(keepends=True)[-_TRACEBACK_LINES:]
    if outcome.sentence:
        job.say(outcome.sentence + (TAIL_FOLLOWS if lines else ""))
    if lines and sys.stderr is not None:
        sys.stderr.flush()
        sys.stderr.buffer.write(b"".join(lines))
        sys.stderr.flush()
