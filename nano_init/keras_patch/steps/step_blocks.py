"""Several training steps of `fit` per return to Python.

Keras 3 has `steps_per_execution`, but fixes the number when it traces, and runs more steps than
`steps_per_epoch` if the number does not divide it (keras/src/trainers/epoch_iterator.py). Here the
number is an argument of the graph. The last block of an epoch has only the remaining steps, and
"auto" finds the number during training, without tracing again. The steps, their order and their
batches are the same as one step at a time.
"""

from __future__ import annotations

import functools
import inspect
import weakref

from nano_init.keras_patch.ledger import Replacement
from nano_init.keras_patch.notice import say_once
from nano_init.keras_patch.steps.batch_callbacks import find_batch_callback
from nano_init.keras_patch.steps.block_function import BlockFunction
from nano_init.keras_patch.steps.block_size import are_blocks_default
from nano_init.keras_patch.steps.blocks import Blocks
from nano_init.keras_patch.steps.running_blocks import current_blocks, running

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Model

__all__ = ["step_block_replacements"]

# Models for which the script passed a number of steps to `compile`.
_decided: weakref.WeakSet[Model] = weakref.WeakSet()


def step_block_replacements(size: int | str | None) -> Iterator[Replacement]:
    """Yield the replacements that let `fit` run several steps at once.

    Args:
        size: The number of steps; 1 replaces nothing. None and "auto" find it while `fit` runs.
            "auto" and a number report why a fit has to run one step at a time.
    """
    if size == 1:
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


def _wrap_fit(fit: Callable[..., Any], size: int | str | None) -> Callable[..., Any]:
    signature = inspect.signature(fit)
    number = size if isinstance(size, int) else None

    @functools.wraps(fit)
    def fit_in_blocks(self: Model, *args: Any, **kwargs: Any) -> Any:
        given = _arguments_of(signature, self, *args, **kwargs)
        if not _applies(self, given.get("callbacks"), is_asked=size is not None):
            with running(None):
                return fit(self, *args, **kwargs)
        if number and not isinstance(self.train_function, BlockFunction):
            self.train_function = None
        with running(Blocks(self, number, _epochs_of(given))):
            return fit(self, *args, **kwargs)

    return fit_in_blocks


def _arguments_of(signature: inspect.Signature, *args: Any, **kwargs: Any) -> dict[str, Any]:
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:
        return {}  # `fit` itself reports invalid arguments
    bound.apply_defaults()
    return bound.arguments


def _epochs_of(given: dict[str, Any]) -> int:
    try:
        return int(given["epochs"]) - int(given["initial_epoch"])
    except (KeyError, TypeError, ValueError):
        return 1


def _wrap_evaluate_or_predict(method: Callable[..., Any]) -> Callable[..., Any]:
    """Exclude an evaluation inside `fit`, for example in a callback, from the blocks."""

    @functools.wraps(method)
    def method_apart(self: Model, *args: Any, **kwargs: Any) -> Any:
        with running(None):
            return method(self, *args, **kwargs)

    return method_apart


def _applies(model: Model, callbacks: Any, *, is_asked: bool) -> bool:
    if model in _decided or model.steps_per_execution != 1:
        return False
    if not (is_asked or are_blocks_default()):
        return False
    why = _why_not(model, callbacks)
    if why and is_asked:
        say_once(f"steps per execution: this fit runs one step at a time, because {why}")
    return not why


def _why_not(model: Model, callbacks: Any) -> str | None:
    import tensorflow as tf
    from keras.src.backend.tensorflow.trainer import TensorFlowTrainer

    if model.run_eagerly or tf.config.functions_run_eagerly():
        return "the model runs eagerly"
    if model._distribute_strategy is not None or tf.distribute.has_strategy():
        return "the model is under a distribution strategy"
    for name in ("make_train_function", "_make_function"):
        is_own = getattr(type(model), name) is not getattr(TensorFlowTrainer, name)
        if is_own or name in vars(model):
            return f"{type(model).__name__} overrides {name}"
    callback = find_batch_callback(callbacks)
    return callback and f"the callback {type(callback).__name__} needs every batch"


def _wrap_make_train_function(make: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(make)
    def make_train_function(self: Model, force: bool = False) -> Any:
        is_new = force or self.train_function is None
        made = make(self, force=force)
        is_free = self not in _decided and self.steps_per_execution == 1
        if is_new and is_free and _why_not(self, None) is None:
            self.train_function = BlockFunction(self, self.train_function)
        return made

    return make_train_function


def _wrap_enumerate_iterator(enumerate_steps: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(enumerate_steps)
    def enumerate_blocks(self: Any) -> Any:
        steps = enumerate_steps(self)
        blocks = current_blocks()
        if blocks is None:
            return steps
        # The first iterator of a fit is for training; those of evaluations do not get here.
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
        # A saved model contains the number even if its script did not set one.
        if isinstance(config, dict) and config.get("steps_per_execution") == 1:
            config = {name: v for name, v in config.items() if name != "steps_per_execution"}
        return compile_from_config(self, config)

    return compile_as_saved
