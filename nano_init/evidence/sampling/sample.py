"""Take a sample of a script's training: a bounded number of steps, in a process of its own.

The script runs as it is, from its start, on a copy-on-write view of all files
(`isolation_main.py`); the hooks of `watch.py` see its steps, and end the process after the last.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from nano_init.errors import SampleError
from nano_init.evidence.sampling.isolated_command import isolated_command, postpone_preload
from nano_init.evidence.sampling.sample_errors import explain_sample_error
from nano_init.evidence.sampling.standard_input import open_empty_input, was_read
from nano_init.protocol.sample_record import describe_record_file, parse_record
from nano_init.protocol.sample_rules import LEAST_STEPS, WARM_UP
from nano_init.protocol.step_marks import main_marks, step_seconds
from nano_init.protocol.variables import WATCH_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, BinaryIO

__all__ = [
    "SILENCED",
    "Sample",
    "SampleRequest",
    "adopting",
    "check_permitted",
    "content",
    "preparing",
    "read_record",
    "take_sample",
    "undisturbed",
    "watch_request",
    "watch_variables",
]

_PR_SET_CHILD_SUBREAPER = 36  # sys/prctl.h

# A sample must not reach services that keep a record of runs.
SILENCED = {"WANDB_MODE": "disabled"}


@dataclass(frozen=True)
class SampleRequest:
    """How long a sample is, and what it records.

    Args:
        steps: after how many steps of one optimizer the process ends.
        seconds: how long after its first step it ends with those that it has made, if they are
            enough to measure.
        start_seconds: how long it may take to its first step.
        megabytes: how much it may write.
        loss: record the loss of each step.
        seed: start the random numbers from here, and move the script's own seed by it; None
            leaves both alone.
        verbose: let oneDNN print its primitives; they are in the sample's output.
        profile: let TensorFlow profile the steps after the warm-up.
    """

    steps: int = 30
    seconds: float = 60.0
    start_seconds: float = 300.0
    megabytes: int = 1024
    loss: bool = True
    seed: int | None = None
    verbose: bool = False
    profile: bool = False


@dataclass(frozen=True)
class Sample:
    """What was measured of one process.

    Args:
        step_seconds: the time of each step after the warm-up.
        losses: the loss of every step that was seen; () where none was.
        first_step_seconds: from the start of the process to the end of its first step.
        batch: samples in a step, or None where it is unknown.
        peak_kb: the most memory that the process had resident, or None.
        signature: the shapes of the trained variables.
        output: what the process has printed on stdout.
        profile: what TensorFlow's profiler found, as `Profile.stop` gives it; None without.
    """

    step_seconds: tuple[float, ...]
    losses: tuple[float, ...]
    first_step_seconds: float
    batch: int | None
    peak_kb: int | None
    signature: str
    output: bytes = b""
    profile: Mapping[str, Any] | None = None

    @property
    def step_time(self) -> float:
        """Return the median step time in seconds."""
        return statistics.median(self.step_seconds)

    @property
    def last_loss(self) -> float | None:
        """Return the mean loss of the last quarter of the steps, or None."""
        if not self.losses:
            return None
        return statistics.fmean(self.losses[-max(1, len(self.losses) // 4) :])


def undisturbed(step_seconds: Sequence[float]) -> float:
    """Return the 20th percentile of some step times.

    What else a machine does makes steps slower and never faster, so that it is nearer to the
    program's own speed than the median, and steadier than the minimum.

    Args:
        step_seconds: two at least.
    """
    return statistics.quantiles(step_seconds, n=5, method="inclusive")[0]


def take_sample(
    argv: Sequence[str], environ: Mapping[str, str], request: SampleRequest, cwd: str | None = None
) -> Sample:
    """Run a command for a number of training steps, and measure them.

    Args:
        argv: the interpreter's path and its arguments.
        environ: its whole environment; the bootstrap stands in its PYTHONPATH.
        request: what to sample.
        cwd: the folder to run in; this process's own by default.

    Raises:
        SampleError: no sample can be taken; the sentence says why. No file was changed.
    """
    with ExitStack() as stack:
        with preparing():
            status, record, output, complaints = (
                stack.enter_context(tempfile.TemporaryFile()) for _ in range(4)
            )
            stdin = stack.enter_context(open_empty_input())
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="nano-run-"))
        code = _run(
            isolated_command(argv, status.fileno(), scratch, request.megabytes),
            postpone_preload({**environ, **watch_variables(request, record.fileno())}),
            (stdin, status, record, output, complaints),
            request.start_seconds + request.seconds,
            cwd,
        )
        check_permitted(content(status))
        return read_record(
            parse_record(content(record)),
            code,
            content(complaints).decode(errors="replace"),
            request,
            content(output),
            has_read=was_read(stdin),
        )


@contextmanager
def preparing() -> Iterator[None]:
    """Turn a failure of the files that a sample needs into a failed sample: the next can run.

    Raises:
        SampleError: there is no temporary folder that can be written to, or no room in it.
    """
    try:
        yield
    except OSError as error:
        raise SampleError(
            f"a sample needs a temporary folder ({error.strerror or error}); set TMPDIR to one "
            "that can be written to"
        ) from error


def read_record(
    record: Mapping[str, Any] | None,
    code: int | None,
    complaints: str,
    request: SampleRequest,
    output: bytes = b"",
    *,
    has_read: bool = False,
) -> Sample:
    """Return the sample that a process's record holds. Pure.

    Args:
        record: what the watch has written; None if it has written nothing.
        code: the exit status, negative for a signal; None if it was killed for its time.
        complaints: what the process printed on stderr.
        request: what was asked for.
        output: what it printed on stdout.
        has_read: whether it has tried to read its standard input.

    Raises:
        SampleError: the record does not hold enough steps.
    """
    marks = main_marks(record["marks"]) if record else []
    steps = step_seconds(marks)
    # Short samples give up some of the warm-up, but never the two that trace and allocate.
    warm_up = min(WARM_UP, max(2, len(steps) - LEAST_STEPS))
    measured = steps[warm_up:]
    if record is None or len(measured) < LEAST_STEPS:
        given = request.start_seconds + request.seconds
        raise explain_sample_error(
            len(marks), code, complaints, given, is_late=code is None, has_read=has_read
        )
    return Sample(
        step_seconds=measured,
        losses=tuple(mark[3] for mark in marks if mark[3] is not None),
        first_step_seconds=marks[0][0] - record["started"],
        batch=record["batch"],
        peak_kb=record["peak_kb"],
        signature=json.dumps(record["signature"]),
        output=output,
        profile=record.get("profile"),
    )


def check_permitted(refusal: bytes) -> None:
    """Raise if a process wrote that it could not be isolated, and so was not started.

    Args:
        refusal: what `isolation_main.py` has written to its status file.

    Raises:
        SampleError: it has written something.
    """
    if refusal:
        raise SampleError(
            "a sample needs a copy-on-write view of the file system, and this system does not "
            f"permit one: {refusal.decode(errors='replace')}"
        )


def watch_request(
    request: SampleRequest, fd: int, pace: tuple[int, int] | None = None
) -> dict[str, object]:
    """Return the watch's request in its own format.

    Args:
        request: what to record.
        fd: the file descriptor to write the record to.
        pace: the pipes of a training in slices, to read from and to write to.
    """
    return {
        **describe_record_file(fd),
        "steps": request.steps,
        "seconds": request.seconds,
        "loss": request.loss,
        "seed": request.seed,
        "verbose": request.verbose,
        "pace": pace,
        "profile": [WARM_UP, request.steps] if request.profile else None,
    }


def watch_variables(
    request: SampleRequest, fd: int, pace: tuple[int, int] | None = None
) -> dict[str, str]:
    """Return the variables by which a process knows that it is watched; see `watch_request`."""
    verbose = {"ONEDNN_VERBOSE": "1"} if request.verbose else {}
    return {**SILENCED, **verbose, WATCH_VARIABLE: json.dumps(watch_request(request, fd, pace))}


def _run(
    argv: Sequence[str],
    environ: Mapping[str, str],
    files: tuple[BinaryIO, BinaryIO, BinaryIO, BinaryIO, BinaryIO],
    seconds: float,
    cwd: str | None,
) -> int | None:
    stdin, status, record, output, complaints = files
    with adopting():
        process = subprocess.Popen(
            argv,
            env=environ,
            cwd=cwd,
            stdin=stdin,
            stdout=output,
            stderr=complaints,
            pass_fds=(status.fileno(), record.fileno()),
            # Only this process receives Ctrl-C, and it then ends the whole tree.
            start_new_session=True,
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            process.kill()
            process.wait()


@contextmanager
def adopting() -> Iterator[None]:
    """End all that is started in here, those too whose parent ended before them.

    Such processes become children of the nearest subreaper (prctl(2)), which this one is
    meanwhile. It is none afterwards: it may become the user's program.
    """
    import ctypes

    import psutil

    prctl = ctypes.CDLL(None).prctl
    here = psutil.Process()
    before = {child.pid for child in here.children(recursive=True)}
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        # A process that was just forked is found in the next round.
        while left := [c for c in here.children(recursive=True) if c.pid not in before]:
            for child in left:
                with suppress(psutil.Error):  # gone by itself
                    child.kill()
            psutil.wait_procs(left, timeout=5)
        prctl(_PR_SET_CHILD_SUBREAPER, 0)


def content(file: BinaryIO) -> bytes:
    """Return all that is in a file."""
    file.seek(0)
    return file.read()
