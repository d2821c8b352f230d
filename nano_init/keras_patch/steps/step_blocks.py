"""Several training steps of `fit` between two returns to Python.

Keras 3 has `steps_per_execution`, but fixes the number when it traces, and runs more steps than
`steps_per_epoch` asks for where the number does not divide it (keras/src/trainers/
epoch_iterator.py). Here the number is an argument of the graph: the last block of an epoch is
as long as what is left, and "auto" finds the number while it trains, without tracing again.
Steps, their order and their batches are those of one step at a time.
"""

from __future__ import annotations

import functools
import inspect
import threading
import time
import weakref

from nano_init.keras_patch.ledger import Replacement
from nano_init.keras_patch.notice import say_once
from nano_init.keras_patch.steps.batch_callbacks import find_batch_callback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Model, Tensor

__all__ = ["choose_size", "step_block_replacements"]

# What "auto" aims at: a progress bar and Ctrl-C still feel immediate.
_TARGET_SECONDS = 0.05
_MOST_STEPS = 64

_running = threading.local()

# Models whose script gave `compile` a number of steps itself.
_decided: weakref.WeakSet[Model] = weakref.WeakSet()


def step_block_replacements(size: int | str | None) -> Iterator[Replacement]:
    """Yield what lets `fit` run several steps at once; nothing where that was not asked for.

    Args:
        size: The number of steps, "auto", or None.
    """
    if size is None:
        return
    from keras.src.backend.tensorflow.trainer import TensorFlowTrainer
    from keras.src.trainers.epoch_iterator import EpochIterator
    from keras.src.trainers.trainer import Trainer

    def wrapped(target: Any, name: str, wrap: Callable[..., Any], *args: Any) -> Replacement:
        return Replacement(target, name, wrap(vars(target)[name], *args))

    yield wrapped(Trainer, "compile", _wrap_compile)
    yield wrapped(Trainer, "compile_from_config", _wrap_compile_from_config)
    yield wrapped(TensorFlowTrainer, "fit", _wrap_fit, size)
    yield wrapped(TensorFlowTrainer, "evaluate", _wrap_evaluate_or_predict)
    yield wrapped(TensorFlowTrainer, "predict", _wrap_evaluate_or_predict)
    yield wrapped(TensorFlowTrainer, "make_train_function", _wrap_make_train_function)
    yield wrapped(EpochIterator, "_enumerate_iterator", _wrap_enumerate_iterator)


def choose_size(seconds: float) -> int:
    """Return how many steps take about 50 ms: a power of two, at most 64.

    Args:
        seconds: The time of one step.
    """
    size = 1
    while size < _MOST_STEPS and 2 * size * seconds <= _TARGET_SECONDS:
        size *= 2
    return size


class _Blocks:
    """The blocks of one call of `fit`.

    Args:
        model: The model that is trained.
        size: How many steps a block has, or "auto".
    """

    def __init__(self, model: Model, size: int | str) -> None:
        self.model = model
        self.is_auto = size == "auto"
        self.size = 1 if isinstance(size, str) else size
        self.count = 1
        self.done = 1
        self.epoch_iterator: Any = None
        self._is_warm = False

    def group(self, epoch_iterator: Any, steps: Iterator[Any]) -> Iterator[Any]:
        """Yield the steps of an epoch, several as one.

        Args:
            epoch_iterator: Keras's, which counts the steps as `steps` is advanced.
            steps: First step, last step and data iterator, one step each.
        """
        for begin, end, data in steps:
            self.count, last = 1, end
            while self.count < self._limit() and not _is_at_end(epoch_iterator, last):
                _, last, data = next(steps)
                self.count += 1
            self.done = self.count
            yield begin, last, data
            if self.done < self.count:
                # The step that meets the end of the data, as it would one at a time: it raises,
                # having counted on, for one, the random numbers of dropout.
                epoch_iterator._steps_seen -= self.count - self.done - 1
                begin, self.count = begin + self.done, 1
                yield begin, begin, data

    def run(self, block: Callable[[Any, int], tuple[Any, int]], data: Any) -> Any:
        """Run one block, and return what its last step returned.

        Args:
            block: Takes the data iterator and a number of steps; returns the outputs of the
                last step, and how many there were data for.
            data: The data iterator.
        """
        start = time.perf_counter()
        outputs, self.done = block(data, self.count)
        # The first call traces, and says nothing of a step's time.
        if self.is_auto and self._is_warm:
            self.size = choose_size((time.perf_counter() - start) / max(self.done, 1))
        self._is_warm = True
        return outputs

    def _limit(self) -> int:
        # A script may have put a train function of its own in its place meanwhile.
        return self.size if isinstance(self.model.train_function, _BlockFunction) else 1


class _BlockFunction:
    """A model's `train_function`: one step, or a block of them while `fit` asks for it.

    Args:
        model: The model.
        one_step: Keras's own train function, made for one step.
    """

    def __init__(self, model: Model, one_step: Callable[[Any], Any]) -> None:
        self._model = weakref.ref(model)
        self._one_step = one_step
        self._graph: Any = None
        self._is_unfit = False

    def __call__(self, data: Any) -> Any:
        """Train on the data iterator's next step, or steps, and return the last one's outputs."""
        import tensorflow as tf

        blocks = _current_blocks()
        if blocks is None or blocks.model is not self._model():
            return self._one_step(data)
        if not isinstance(data, tf.data.Iterator):
            return self._one_step(data)
        return blocks.run(self._run_block, data)

    def _run_block(self, data: Any, count: int) -> tuple[Any, int]:
        import tensorflow as tf

        if not self._is_unfit:
            graph = self._traced(data)
            if graph is not None:
                outputs, done = graph(data, tf.constant(count))
                return outputs, int(done)
        return _run_one_by_one(self._one_step, data, count)

    def _traced(self, data: Any) -> Any:
        import tensorflow as tf

        if self._graph is None:
            graph = tf.function(
                functools.partial(_run_in_graph, self._one_step),
                autograph=False,
                reduce_retracing=True,
            )
            try:
                graph.get_concrete_function(data, tf.constant(1))
            # Outputs that no loop can carry, such as None: the steps run all the same.
            except (TypeError, ValueError):
                self._is_unfit = True
                return None
            self._graph = graph
        return self._graph


def _current_blocks() -> _Blocks | None:
    return getattr(_running, "blocks", None)


def _run_in_graph(one_step: Callable[[Any], Any], data: Any, count: Tensor) -> tuple[Any, Any]:
    import tensorflow as tf

    def is_on(done: Tensor, has_more: Tensor, _: Any) -> Tensor:
        return tf.logical_and(has_more, done < count)

    def one_more(done: Tensor, _: Any, outputs: Any) -> Any:
        batch = data.get_next_as_optional()
        has_more = batch.has_value()
        outputs = tf.cond(has_more, lambda: one_step([batch.get_value()]), lambda: outputs)
        return done + tf.cast(has_more, tf.int32), has_more, outputs

    first = one_step([data.get_next()])
    loop = [tf.constant(1), tf.constant(True), first]
    done, _, outputs = tf.while_loop(is_on, one_more, loop)
    return outputs, done


def _run_one_by_one(one_step: Callable[[Any], Any], data: Any, count: int) -> tuple[Any, int]:
    import tensorflow as tf

    outputs, done = one_step(data), 1
    try:
        while done < count:
            outputs = one_step(data)
            done += 1
    except (StopIteration, tf.errors.OutOfRangeError):
        pass  # the data ended within the block, which the next step tells
    return outputs, done


def _is_at_end(epoch_iterator: Any, last: int) -> bool:
    # Advancing Keras's own generator past its end would begin the next epoch.
    known = epoch_iterator._num_batches
    steps = epoch_iterator.steps_per_epoch or known
    has_run_out = known and epoch_iterator._steps_seen >= known
    return not steps or last + 1 >= steps or bool(has_run_out)


def _wrap_fit(fit: Callable[..., Any], size: int | str) -> Callable[..., Any]:
    signature = inspect.signature(fit)

    @functools.wraps(fit)
    def fit_in_blocks(self: Model, *args: Any, **kwargs: Any) -> Any:
        outer = _current_blocks()
        _running.blocks = None
        try:
            if _applies(self, _callbacks_of(signature, self, *args, **kwargs)):
                _running.blocks = _Blocks(self, size)
                if not isinstance(self.train_function, _BlockFunction):
                    self.train_function = None
            return fit(self, *args, **kwargs)
        finally:
            _running.blocks = outer

    return fit_in_blocks


def _callbacks_of(signature: inspect.Signature, *args: Any, **kwargs: Any) -> Any:
    try:
        return signature.bind(*args, **kwargs).arguments.get("callbacks")
    except TypeError:
        return None  # what is wrong with the arguments `fit` itself says best


def _wrap_evaluate_or_predict(method: Callable[..., Any]) -> Callable[..., Any]:
    """Keep an evaluation inside `fit`, be it by a callback, out of the blocks."""

    @functools.wraps(method)
    def method_apart(self: Model, *args: Any, **kwargs: Any) -> Any:
        outer = _current_blocks()
        _running.blocks = None
        try:
            return method(self, *args, **kwargs)
        finally:
            _running.blocks = outer

    return method_apart


def _applies(model: Model, callbacks: Any) -> bool:
    if model in _decided or model.steps_per_execution != 1:
        return False
    why = _why_not(model, callbacks)
    if why:
        say_once(f"steps per execution: this fit runs one step at a time, because {why}")
    return not why


def _why_not(model: Model, callbacks: Any) -> str | None:
    import tensorflow as tf
    from keras.src.backend.tensorflow.trainer import TensorFlowTrainer

    if model.run_eagerly:
        return "the model runs eagerly"
    if model._distribute_strategy is not None or tf.distribute.has_strategy():
        return "the model is under a distribution strategy"
    for name in ("make_train_function", "_make_function"):
        is_own = getattr(type(model), name) is not getattr(TensorFlowTrainer, name)
        if is_own or name in vars(model):
            return f"{type(model).__name__} has a {name} of its own"
    callback = find_batch_callback(callbacks)
    return callback and f"the callback {type(callback).__name__} needs every batch"


def _wrap_make_train_function(make: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(make)
    def make_train_function(self: Model, force: bool = False) -> Any:
        is_new = force or self.train_function is None
        made = make(self, force=force)
        blocks = _current_blocks()
        if is_new and blocks is not None and blocks.model is self:
            self.train_function = _BlockFunction(self, self.train_function)
        return made

    return make_train_function


def _wrap_enumerate_iterator(enumerate_steps: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(enumerate_steps)
    def enumerate_blocks(self: Any) -> Any:
        steps = enumerate_steps(self)
        blocks = _current_blocks()
        if blocks is None:
            return steps
        # The first one of a fit is for training; those of evaluations do not get here.
        if blocks.epoch_iterator is None:
            blocks.epoch_iterator = self
        return blocks.group(self, steps) if blocks.epoch_iterator is self else steps

    return enumerate_blocks


def _wrap_compile(compile_model: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(compile_model)

    @functools.wraps(compile_model)
    def compile_and_note(self: Model, *args: Any, **kwargs: Any) -> Any:
        result = compile_model(self, *args, **kwargs)
        given = signature.bind(self, *args, **kwargs).arguments
        (_decided.add if "steps_per_execution" in given else _decided.discard)(self)
        return result

    return compile_and_note


def _wrap_compile_from_config(compile_from_config: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(compile_from_config)
    def compile_as_saved(self: Model, config: Any) -> Any:
        # A saved model names the number even where its script did not.
        if isinstance(config, dict) and config.get("steps_per_execution") == 1:
            config = {name: v for name, v in config.items() if name != "steps_per_execution"}
        return compile_from_config(self, config)

    return compile_as_saved
