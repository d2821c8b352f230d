"""See the steps of a training from inside its process, whatever loop runs them.

A step is what moves an optimizer's `iterations`. In eager code that happens in the optimizer's
`apply`; in a graph nothing in Python runs at that time, so the number is read again whenever an
outermost call of a `tf.function` returns: `fit` with any `steps_per_execution`, a custom loop
with a compiled step and one that is compiled whole are all seen by the same two hooks. On CPUs
such a call returns when its operations have run (TensorFlow's eager runtime is synchronous
there), so that the times between marks are those of steps, with all that the script does
between them: input, callbacks, logging.

The launcher asks for it in NANO_INIT_WATCH, which the bootstrap takes out of the environment:
only the process itself is watched, not those that it starts.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import sys
import threading
import time
from contextlib import suppress

from nano_init.evidence.isolation import STARTED_VARIABLE
from nano_init.evidence.profile import Profile
from nano_init.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping
    from typing import Any

__all__ = ["WATCH_VARIABLE", "Watch", "start_watching"]

WATCH_VARIABLE = "NANO_INIT_WATCH"

# A run of days keeps the marks of its first steps, and every later one that fits.
_MOST_MARKS = 20_000


@frozen
class Mark:
    """The end of one or more steps.

    Args:
        at: seconds of the monotonic clock.
        optimizer: which of the optimizers stepped, by the order of their first use.
        iterations: how many steps it has made by then.
        loss: the loss of the last step, or None where none was seen.
    """

    at: float
    optimizer: int
    iterations: int
    loss: float | None


class Watch:
    """The steps that were seen in this process, and what is to be done at the last one.

    Args:
        request: what the launcher asked for: `fd`, the file descriptor to write the record to;
            `steps`, after how many to end the process, or None for never; `seconds`, at what
            age to end it if it has made a step; `loss`, whether to record it; `profile`, None
            or `[first, last]`, the steps to profile; `verbose`, whether to tell steps apart in
            what oneDNN prints.
        environ: the environment; tells when the process began.
    """

    def __init__(self, request: Mapping[str, Any], environ: MutableMapping[str, str]) -> None:
        self.request = request
        self.wants_loss = bool(request.get("loss"))
        self.started = float(environ.pop(STARTED_VARIABLE, "") or time.monotonic())
        self.marks: list[Mark] = []
        self.optimizers: list[Any] = []
        self.depth = threading.local()
        self.batch: Any = None
        self.loss: Any = None
        self.waited = 0.0
        self._process = os.getpid()
        self._made: list[int] = []
        self._profile = Profile()
        self._profiled: dict[str, Any] | None = None

    def note_optimizer(self, optimizer: Any) -> None:
        """Remember an optimizer that is being applied."""
        if not any(known is optimizer for known in self.optimizers):
            self.optimizers.append(optimizer)
            self._made.append(_iterations(optimizer))

    def look(self) -> None:
        """Mark the steps that were made since the last look, and end the sample if it is full."""
        for index, optimizer in enumerate(self.optimizers):
            made = _iterations(optimizer)
            if made == self._made[index]:
                continue
            self._made[index] = made
            self._add(Mark(time.monotonic(), index, made, self._last_loss()))
            if self.request.get("verbose"):
                _flush()
                os.write(1, f"nano-run: step {made}\n".encode())
            self._act_on(made)

    def write(self, ended: str) -> None:
        """Write the record to the file descriptor that was asked for.

        Args:
            ended: "full" if the sample has all its steps, "late" if its time was over before,
                "exit" if the program ended.
        """
        if os.getpid() != self._process:  # forked: the record is the parent's
            return
        record = {
            "ended": ended,
            "started": self.started,
            "now": time.monotonic(),
            "marks": [[m.at, m.optimizer, m.iterations, m.loss] for m in self.marks],
            "batch": _batch_size(self.batch),
            "waited": self.waited,
            "peak_kb": _status_kb("VmHWM"),
            "profile": self._profiled,
            "signature": [_signature(optimizer) for optimizer in self.optimizers],
        }
        file = int(self.request["fd"])
        try:
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps(record).encode(), 0)
        except OSError:
            return  # the program has closed it: the launcher then finds no record

    def _add(self, mark: Mark) -> None:
        if len(self.marks) >= _MOST_MARKS:
            del self.marks[1::2]
        self.marks.append(mark)

    def _last_loss(self) -> float | None:
        return None if self.loss is None else _number(self.loss)

    def _act_on(self, made: int) -> None:
        begin, end = self.request.get("profile") or (0, 0)
        if begin <= made < end and not self._profile.is_on:
            self._profile.start()
        elif made >= end:
            self._stop_profile()
        last, seconds = self.request.get("steps"), self.request.get("seconds")
        late = seconds and time.monotonic() - self.started > seconds
        if last and (made >= last or late):
            self._stop_profile()
            self.write("full" if made >= last else "late")
            _flush()
            # Neither the script's `finally` nor its exit handlers: a sample saves nothing.
            os._exit(0)

    def _stop_profile(self) -> None:
        if self._profile.is_on:
            self._profiled = self._profile.stop()


def start_watching(request: Mapping[str, Any], name: str) -> None:
    """Hook into the Keras that has just been imported.

    Args:
        request: what the launcher asked for, as for `Watch`.
        name: the package, "keras" or "tf_keras".
    """
    global _watch
    if _watch is None:
        _watch = Watch(request, os.environ)
        atexit.register(_watch.write, "exit")
        _hook_functions(_watch)
        _hook_iterators(_watch)
        if _watch.wants_loss:
            _hook_tapes(_watch)
    if request.get("seed") is not None:
        _shift_seeds(int(request["seed"]))
    _hook_optimizers(_watch, name)
    if name == "keras":
        _hook_models(_watch)


_watch: Watch | None = None


def _hook_functions(watch: Watch) -> None:
    from tensorflow.python.eager.polymorphic_function.polymorphic_function import Function

    call = Function.__call__
    depth = watch.depth

    @functools.wraps(call)
    def watched_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(depth, "value", 0):
            return call(self, *args, **kwargs)
        depth.value = 1
        try:
            result = call(self, *args, **kwargs)
        finally:
            depth.value = 0
        if watch.optimizers and _is_eager():
            watch.look()
        return result

    Function.__call__ = watched_call


def _hook_optimizers(watch: Watch, name: str) -> None:
    optimizer, method = _optimizer_class(name)
    apply = getattr(optimizer, method)

    @functools.wraps(apply)
    def watched_apply(self: Any, *args: Any, **kwargs: Any) -> Any:
        known = getattr(self, "iterations", None) is not None
        if known:
            watch.note_optimizer(self)
        result = apply(self, *args, **kwargs)
        if known and not getattr(watch.depth, "value", 0) and _is_eager():
            watch.look()
        return result

    setattr(optimizer, method, watched_apply)


def _optimizer_class(name: str) -> tuple[Any, str]:
    if name == "keras":
        from keras.src.optimizers.base_optimizer import BaseOptimizer

        return BaseOptimizer, "apply"
    from tf_keras.optimizers import Optimizer

    return Optimizer, "apply_gradients"


def _hook_iterators(watch: Watch) -> None:
    """Learn how long a loop in Python waits for its batches."""
    from tensorflow.python.data.ops.iterator_ops import OwnedIterator

    following = OwnedIterator.__next__

    @functools.wraps(following)
    def timed_next(self: Any) -> Any:
        start = time.perf_counter()
        batch = following(self)
        watch.waited += time.perf_counter() - start
        return batch

    OwnedIterator.__next__ = timed_next


def _hook_models(watch: Watch) -> None:
    """Learn the size of a batch: the first axis of what an outermost model is called with."""
    from keras.models import Model

    call = Model.__call__
    depth = watch.depth

    @functools.wraps(call)
    def noted_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(depth, "in_model", False):
            return call(self, *args, **kwargs)
        depth.in_model = True
        try:
            inputs = _first_leaf(args or tuple(kwargs.values()))
            if _is_eager():
                watch.batch = _leading_size(inputs) or watch.batch
            elif hasattr(inputs, "graph"):
                _assign_in_graph(watch, "batch", inputs, _dynamic_size)
            return call(self, *args, **kwargs)
        finally:
            depth.in_model = False

    Model.__call__ = noted_call


def _hook_tapes(watch: Watch) -> None:
    """Keep the loss of each step: what a tape differentiates with respect to variables."""
    from tensorflow.python.eager.backprop import GradientTape

    gradient = GradientTape.gradient

    @functools.wraps(gradient)
    def noted_gradient(self: Any, target: Any, sources: Any, *args: Any, **kwargs: Any) -> Any:
        leaf = _first_leaf(target)
        if _is_of_variables(sources) and getattr(leaf, "dtype", None) is not None:
            if _is_eager():
                watch.loss = _mean(leaf)
            else:
                _assign_in_graph(watch, "loss", leaf, _mean)
        return gradient(self, target, sources, *args, **kwargs)

    GradientTape.gradient = noted_gradient


def _assign_in_graph(watch: Watch, name: str, tensor: Any, value: Callable[[Any], Any]) -> None:
    """Let the graph that is being traced write a number where the host can read it."""
    import tensorflow as tf

    if tensor is None or tf.distribute.has_strategy():
        return
    holder = getattr(watch, name)
    if not isinstance(holder, tf.Variable):
        with tf.init_scope():
            holder = tf.Variable(float("nan"), trainable=False, dtype=tf.float32)
        setattr(watch, name, holder)
    holder.assign(value(tensor))


def _mean(tensor: Any) -> Any:
    import tensorflow as tf

    return tf.reduce_mean(tf.cast(tensor, tf.float32))


def _dynamic_size(tensor: Any) -> Any:
    import tensorflow as tf

    if tensor.shape.rank == 0:
        return tf.constant(float("nan"))
    return tf.cast(tf.shape(tensor)[0], tf.float32)


def _is_of_variables(sources: Any) -> bool:
    leaf = _first_leaf(sources)
    return leaf is not None and hasattr(leaf, "assign")


def _first_leaf(nest: Any) -> Any:
    while isinstance(nest, (tuple, list, dict)):
        if not nest:
            return None
        nest = next(iter(nest.values())) if isinstance(nest, dict) else nest[0]
    return nest


def _leading_size(tensor: Any) -> int | None:
    shape = getattr(tensor, "shape", None)
    try:
        return int(shape[0]) if shape is not None and len(shape) else None
    except (TypeError, ValueError):  # unknown rank or size
        return None


def _iterations(optimizer: Any) -> int:
    import tensorflow as tf

    try:
        with tf.init_scope():  # out of the graph that is being traced, if one is
            return int(optimizer.iterations.numpy())
    except (AttributeError, NotImplementedError):  # made inside the graph: not yet there
        return 0


def _number(value: Any) -> float:
    return float(value.numpy() if hasattr(value, "numpy") else value)


def _batch_size(value: Any) -> int | None:
    number = float("nan") if value is None else _number(value)
    return int(number) if number >= 1 else None


def _is_eager() -> bool:
    from tensorflow.python.eager import context

    return bool(context.executing_eagerly())


def _signature(optimizer: Any) -> list[list[int]]:
    variables = getattr(optimizer, "_trainable_variables", None) or ()
    return [[int(size) for size in variable.shape] for variable in variables]


def _shift_seeds(offset: int) -> None:
    """Start from a seed, and move those that the script sets by the same offset."""
    import random
    from importlib import import_module

    import numpy as np
    from keras.src.utils.rng_utils import set_random_seed

    def set_shifted_seed(seed: int) -> None:
        set_random_seed(seed + offset)

    # The same function under the names that scripts use; tf.keras has modules of its own.
    for name in ("keras.utils", "keras._tf_keras.keras.utils"):
        import_module(name).set_random_seed = set_shifted_seed  # type: ignore[attr-defined]
    random.seed(offset)
    np.random.seed(offset)


def _status_kb(key: str) -> int | None:
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith(key + ":"):
                    return int(line.split()[1])
    except OSError:
        return None
    return None


def _flush() -> None:
    """Write out what Python and oneDNN have printed; `os._exit` would drop it."""
    import ctypes

    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # closed, or replaced by the script
            stream.flush()
    ctypes.CDLL(None).fflush(None)
