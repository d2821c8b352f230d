"""Train a script in several ways side by side: started once each, then run in turn, in slices.

A machine's speed drifts over seconds, and a process takes seconds to start. So each training is
a process of its own that stays, stopped by SIGSTOP while another has the machine, and its files
are as safe as a sample's (`isolation_main.py`).
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack, suppress

from nano_init.errors import LateSampleError, SampleError
from nano_init.evidence.sampling.sample import check_permitted, content, preparing
from nano_init.evidence.sampling.sample_errors import explain_sample_error
from nano_init.evidence.sampling.standard_input import open_empty_input, was_read
from nano_init.evidence.tuning.fork_server import TrainingCommand, start_process
from nano_init.protocol.sample_rules import LEAST_SLICE_STEPS, SETTLING
from nano_init.protocol.step_marks import main_marks, step_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from nano_init.evidence.sampling.sample import SampleRequest
    from nano_init.evidence.tuning.fork_server import Process

__all__ = ["PausableTraining"]

# What has written its last report, or closed its pipe, has ended by then.
_ENDING_SECONDS = 5.0


class PausableTraining:
    """A script that trains in a process of its own, a slice at a time.

    Args:
        argv: the interpreter's path and its arguments.
        environ: its whole environment; the bootstrap stands in its PYTHONPATH.
        request: its seed, how long it may take to start, and how much it may write.
        start: starts the process.

    Raises:
        SampleError: it cannot be started.
    """

    def __init__(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        request: SampleRequest,
        start: Callable[[TrainingCommand], Process] = start_process,
    ) -> None:
        self.losses: list[tuple[int, float]] = []
        self.signature = ""
        # All the memory that it takes, its files included, which are kept in memory.
        self.peak_kb: int | None = None
        # Variables that the script itself has set, and that are read at the import.
        self.changed: list[str] = []
        self.is_over = False
        self._most_bytes = request.megabytes << 20
        self._scratch: tempfile.TemporaryDirectory[str] | None
        with preparing(), ExitStack() as stack:
            self._stdin = stack.enter_context(open_empty_input())
            self._files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
            self._scratch = tempfile.TemporaryDirectory(prefix="nano-run-")
            stack.pop_all()  # they stay open until `close`
        words, self._words = os.pipe()
        self._reports, reports = os.pipe()
        self._buffer = b""
        self._steps = 0
        files = [self._stdin, *self._files]
        wanted = TrainingCommand(
            argv, environ, request, self._scratch.name, files, (words, reports)
        )
        self._process: Process | None = None
        try:
            self._process = start(wanted)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(words)
            os.close(reports)

    def warm_up(self, seconds: float) -> None:
        """Wait for the first steps, which trace the graph, and stop the process after them.

        Args:
            seconds: how long to wait.

        Raises:
            SampleError: the script does not train, or not in that time.
        """
        self._read(seconds)

    def train(self, seconds: float, patience: float = 60.0) -> tuple[float, ...]:
        """Train for a slice, and return the seconds of each of its steps.

        Args:
            seconds: how long the slice is, if it has LEAST_SLICE_STEPS by then.
            patience: how much longer to wait for them.

        Raises:
            SampleError: the script has ended, or failed.
        """
        if self.is_over:
            raise SampleError("the script's training has ended")
        with suppress(BrokenPipeError):  # `_read` says what it died of
            os.write(
                self._words, json.dumps([seconds, SETTLING + LEAST_SLICE_STEPS]).encode() + b"\n"
            )
        self._signal(signal.SIGCONT)
        marks = main_marks(self._read(seconds + patience)["marks"])
        steps = step_seconds(marks)[SETTLING - 1 :]
        if len(steps) < LEAST_SLICE_STEPS:
            raise SampleError("the script's training has ended")
        return steps

    def written_kb(self) -> int:
        """Return how much memory the files take that it has written; 0 where that is unknown.

        An overlay reports the file system that its upper layer is on: the training's own tmpfs.
        """
        if self._process is None or self._scratch is None:
            return 0
        try:
            seen = os.statvfs(f"/proc/{self._process.pid}/root{self._scratch.name}")
        except OSError:  # it has ended
            return 0
        if seen.f_blocks * seen.f_frsize > self._most_bytes:  # not isolated yet
            return 0
        return (seen.f_blocks - seen.f_bfree) * seen.f_frsize >> 10

    def close(self) -> None:
        """End the process, and what it has started."""
        if self._scratch is None:
            return
        if self._process is not None:
            self._end(self._process)
        self.is_over = True
        for file in (self._stdin, *self._files):
            file.close()
        for descriptor in (self._words, self._reports):
            os.close(descriptor)
        self._scratch.cleanup()
        self._scratch = None

    def _end(self, process: Process) -> None:
        import psutil

        left = []
        with suppress(psutil.Error):
            left = psutil.Process(process.pid).children(recursive=True)
        for child in left:
            with suppress(psutil.Error):  # gone by itself
                child.kill()
        self._signal(signal.SIGKILL)
        process.kill()
        process.wait()

    def _read(self, seconds: float) -> dict[str, Any]:
        """Wait for a report, stop the process, and return the report."""
        try:
            record = self._wait_for_report(time.monotonic() + seconds)
        except LateSampleError:
            self.is_over = True
            raise self._explain(None, seconds) from None
        if record is None or record["ended"] == "exit":
            self.is_over = True
        else:
            self._signal(signal.SIGSTOP)
        if record is not None:
            self._steps += len(record["marks"])
        if record is None or (self.is_over and len(record["marks"]) < LEAST_SLICE_STEPS + SETTLING):
            raise self._why_over(record)
        marks = main_marks(record["marks"])
        self.losses += [(mark[2], mark[3]) for mark in marks if mark[3] is not None]
        self.signature = json.dumps(record["signature"])
        self.peak_kb = (record["peak_kb"] or 0) + self.written_kb()
        self.changed = record["changed"]
        return record

    def _wait_for_report(self, deadline: float) -> dict[str, Any] | None:
        """Return the next report, or None if the process has ended without one.

        Raises:
            LateSampleError: there is none by then.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(self._reports, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise LateSampleError
                more = os.read(self._reports, 1 << 16)
                if not more:
                    return None
                self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\n")
        record: dict[str, Any] = json.loads(line)
        return record

    def _why_over(self, record: Mapping[str, Any] | None) -> SampleError:
        """Return why there are no more steps.

        Args:
            record: the last report; None if there was none when the pipe was closed.
        """
        has_ended = True
        try:
            if self._process is not None:
                self._process.wait(_ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            has_ended = False
        code = record["status"] if record else None
        if code is None and has_ended and self._process is not None:
            code = self._process.poll()
        if code is None and record is not None:  # exit handlers run: it is about to end in order
            code = 0
        return self._explain(code, has_closed=record is None and not has_ended)

    def _explain(
        self, code: int | None, waited: float | None = None, *, has_closed: bool = False
    ) -> SampleError:
        """Return what follows from how it has ended, and from what it has left behind.

        Args:
            code: its exit status; None if it is not known.
            waited: how long the caller waited without getting its steps; None if it has ended.
            has_closed: whether it runs on without its pipe.
        """
        status, _, complaints = self._files
        check_permitted(content(status))
        return explain_sample_error(
            self._steps,
            code,
            content(complaints).decode(errors="replace"),
            waited or 0.0,
            is_late=waited is not None,
            has_read=was_read(self._stdin),
            has_closed=has_closed,
        )

    def _signal(self, number: int) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
