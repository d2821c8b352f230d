"""Observe the steps of a training from inside its process, whatever loop runs them.

A step is an increment of an optimizer's `iterations`. In eager code the optimizer's `apply` does
it. In a graph no Python code runs at that time, so the counter is read whenever an outermost call
of a `tf.function` returns. These two hooks cover `fit` with any `steps_per_execution`, a custom
loop with a compiled step, and a loop that is compiled as a whole. On CPUs such a call returns when
its operations have run, because TensorFlow's eager runtime is synchronous there. So the times
between marks are the times of steps, including what the script does between them: input,
callbacks, logging.

The launcher requests it in NANO_INIT_WATCH, which the bootstrap removes from the environment: only
the process itself is observed, not its child processes.
"""

from __future__ import annotations

import atexit
import os
import statistics
import sys
import threading
import time
from contextlib import contextmanager, suppress

from nano_init.frozen import frozen
from nano_init.instrumentation.input_source import describe_input
from nano_init.instrumentation.operation_profile import Profile
from nano_init.instrumentation.slice_controller import SliceController
from nano_init.instrumentation.watch_hooks import (
    hook_fit,
    hook_functions,
    hook_iterators,
    hook_models,
    hook_optimizers,
    hook_tapes,
    shift_seeds,
)
from nano_init.keras_patch.faster.deferred import compile_soon
from nano_init.keras_patch.steps.block_size import leave_out_default_blocks, make_blocks_soon
from nano_init.message import NANO_RUN, flush_output, say
from nano_init.patch import current_precision
from nano_init.plan.library_variables import steers_training
from nano_init.protocol.model_signature import shapes_of
from nano_init.protocol.sample_record import write_record
from nano_init.protocol.sample_rules import LEAST_STEPS, WARM_UP
from nano_init.protocol.step_marks import step_mark
from nano_init.protocol.variables import STARTED_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping, Sequence
    from typing import Any

    from nano_init.keras_patch.tensor_types import Optimizer, Variable

__all__ = ["Watch", "note_status", "start_watching"]

# Steps whose batch sizes are recorded; the most frequent one is the script's batch size.
_MOST_BATCHES = 100

# A run of days keeps the marks of its first steps, and as many later ones as fit.
_MOST_MARKS = 20_000


@frozen
class Mark:
    """The end of one or more steps.

    Args:
        at: seconds of the monotonic clock.
        optimizer: the index of the optimizer that stepped, in the order of first use.
        iterations: the number of its steps so far.
        loss: the loss of the last step, or None if none was seen.
    """

    at: float
    optimizer: int
    iterations: int
    loss: float | None


class Watch:
    """The steps seen in this process, and what to do after the last one.

    Args:
        request: the launcher's request: the file to write the record to, as
            `describe_record_file` describes it; `steps`, the number of steps after which to end
            the process, or None for never; `seconds`, the time after the first step when to end
            it if it has made enough steps; `pace`, the pipes of a training in slices, or None;
            `loss`, whether to record the loss; `profile`, None or `[first, last]`, the steps to
            profile; `verbose`, whether to mark steps in oneDNN's output.
        environ: the environment; it holds the start time of the process.
    """

    def __init__(self, request: Mapping[str, Any], environ: MutableMapping[str, str]) -> None:
        self.request = request
        self.wants_loss = bool(request.get("loss"))
        self.started = float(environ.pop(STARTED_VARIABLE, "") or time.monotonic())
        self.marks: list[Mark] = []
        self.optimizers: list[Optimizer] = []
        self.depth = threading.local()
        self.batch: Any = None
        self.loss: Any = None
        self.waited = 0.0
        self.status: int | None = None
        self.input: list[str] = []
        self._process = os.getpid()
        self._variables = _read_at_import(os.environ)
        self._made: list[int] = []
        self._batches: list[int | None] = []
        self._is_off = False
        self._profile = Profile()
        self._profiled: dict[str, Any] | None = None
        self._pace = SliceController(request["pace"], WARM_UP + 1) if request.get("pace") else None

    def note_optimizer(self, optimizer: Optimizer) -> None:
        """Remember an optimizer that is being applied."""
        if self._is_off or any(known is optimizer for known in self.optimizers):
            return
        with self._guarded():
            self._made.append(_iterations(optimizer))
            self.optimizers.append(optimizer)

    def note_input(self, source: Any) -> None:
        """Remember the source of the batches, as `describe_input` returns it."""
        with self._guarded():
            self.input = describe_input(source)

    def look(self) -> None:
        """Mark the steps since the last check, and end the sample if it is complete."""
        for index, optimizer in enumerate(self.optimizers):
            with self._guarded():
                made = _iterations(optimizer)
                if made != self._made[index]:
                    self._made[index] = made
                    self._note_step(index, made)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Keep errors in here from failing the program: it continues unobserved."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the program must continue after any error
            self._is_off = True
            self.optimizers = []
            say(NANO_RUN, f"steps are no longer counted ({type(error).__name__}: {error})")

    def _note_step(self, index: int, made: int) -> None:
        self._add(Mark(time.monotonic(), index, made, self._last_loss()))
        if len(self._batches) < _MOST_BATCHES:
            self._batches.append(_batch_size(self.batch))
        if self.request.get("verbose"):
            _flush()
            os.write(1, f"{step_mark(made, index)}\n".encode())
        self._act_on(made)

    def write(self, ended: str) -> None:
        """Write the record to the requested file; report it if the file is no longer open.

        Args:
            ended: "full" if the sample has all its steps, "late" if its time ran out first,
                "slice" if it continues, "exit" if the program ended.
        """
        if os.getpid() != self._process:  # forked: the record is the parent's
            return
        self._stop_profile()
        record = self._record(ended)
        if self._pace is not None:
            with suppress(OSError):  # no process waits for it any more
                self._pace.report(record)
            return
        if not write_record(self.request, record):
            say(NANO_RUN, "the record of the steps is lost: the script closed its file")

    def _record(self, ended: str) -> dict[str, Any]:
        return {
            "ended": ended,
            "status": _status_of_failure() if self.status is None else self.status,
            "started": self.started,
            "now": time.monotonic(),
            "marks": [[m.at, m.optimizer, m.iterations, m.loss] for m in self.marks],
            # The last batch of an epoch may be smaller, and validation has other batches.
            "batch": statistics.mode(self._batches) if self._batches else None,
            "waited": self.waited,
            "input": self.input,
            "peak_kb": _status_kb("VmHWM"),
            "profile": self._profiled,
            "precision": current_precision(),
            "changed": _changed(self._variables, _read_at_import(os.environ)),
            "signature": [shapes_of(_variables(each)) for each in self.optimizers],
        }

    def _add(self, mark: Mark) -> None:
        if len(self.marks) >= _MOST_MARKS:
            del self.marks[1::2]
        self.marks.append(mark)

    def _last_loss(self) -> float | None:
        return None if self.loss is None else _number(self.loss)

    def _act_on(self, made: int) -> None:
        if self._pace is not None:
            self._keep_to_slice(self._pace)
            return
        begin, end = self.request.get("profile") or (0, 0)
        if begin <= made < end and not self._profile.is_on:
            self._profile.start()
        elif made >= end:
            self._stop_profile()
        last, seconds = self.request.get("steps"), self.request.get("seconds")
        is_enough = len(self.marks) > WARM_UP + LEAST_STEPS
        is_old = seconds and time.monotonic() - self.marks[0].at > seconds
        late = is_enough and is_old
        if last and (made >= last or late):
            self.write("full" if made >= last else "late")
            _leave()

    def _keep_to_slice(self, pace: SliceController) -> None:
        if os.getpid() == self._process and pace.is_over():
            self.write("slice")
            self.marks.clear()
            if not pace.wait():
                _leave()

    def _stop_profile(self) -> None:
        if self._profile.is_on:
            self._profiled = self._profile.stop()


def start_watching(request: Mapping[str, Any], name: str) -> None:
    """Hook into the Keras that was just imported.

    Args:
        request: the launcher's request, as for `Watch`.
        name: the package, "keras" or "tf_keras".
    """
    global _watch
    if _watch is None:
        _watch = Watch(request, os.environ)
        atexit.register(_watch.write, "exit")
        hook_functions(_watch)
        hook_iterators(_watch)
        if _watch.wants_loss:
            hook_tapes(_watch)
        if _is_sample(request):
            compile_soon()
            make_blocks_soon()
            leave_out_default_blocks()
    if request.get("seed") is not None:
        shift_seeds(int(request["seed"]))
    hook_optimizers(_watch, name)
    if name == "keras":
        hook_models(_watch)
        hook_fit(_watch)


def note_status(status: int) -> None:
    """Record the exit status of a program whose process exits with a different status.

    Args:
        status: the status that the program would have had.
    """
    if _watch is not None:
        _watch.status = status


_watch: Watch | None = None


def _is_sample(request: Mapping[str, Any]) -> bool:
    """Say whether a few steps represent a long training; a report observes all of it."""
    return bool(request.get("steps") or request.get("pace"))


def _read_at_import(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if steers_training(name)}


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return sorted(n for n in {*before, *now} if before.get(n) != now.get(n))


def _iterations(optimizer: Optimizer) -> int:
    import tensorflow as tf

    try:
        with tf.init_scope():  # out of the graph that is being traced, if one is
            return int(optimizer.iterations.numpy())
    except (AttributeError, NotImplementedError):  # created inside the graph: it does not exist yet
        return 0


def _status_of_failure() -> int | None:
    """Return 1 if an exception ends the program; the interpreter keeps the one that it printed."""
    return None if getattr(sys, "last_value", None) is None else 1


def _number(value: Any) -> float:
    return float(value.numpy() if hasattr(value, "numpy") else value)


def _batch_size(value: Any) -> int | None:
    number = float("nan") if value is None else _number(value)
    return int(number) if number >= 1 else None


def _variables(optimizer: Optimizer) -> Sequence[Variable]:
    return getattr(optimizer, "_trainable_variables", None) or ()


def _status_kb(key: str) -> int | None:
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith(key + ":"):
                    return int(line.split()[1])
    except OSError:
        return None
    return None


def _leave() -> None:
    """End the process without the script's `finally` blocks and exit handlers: it saves nothing."""
    _flush()
    os._exit(0)


def _flush() -> None:
    """Flush the output of Python and oneDNN, which `os._exit` would discard."""
    import ctypes

    flush_output()
    ctypes.CDLL(None).fflush(None)
