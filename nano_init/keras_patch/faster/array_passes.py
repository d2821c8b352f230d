"""Passes over small arrays without a traced pipeline, and no pass that nobody reads.

Keras makes a pipeline with three functions for the arrays of each `fit`, `evaluate` and `predict`
(keras/src/trainers/data_adapters/array_data_adapter.py, `get_tf_dataset`). TensorFlow traces them
for each call, and instantiates them for each pass, however small the arrays are. Here the rows of a
pass are put in order first, and a pipeline only slices them: the same batches, of the same shapes,
in the same order.

Without a seed, a new order is drawn for each pass, as Keras's pipeline does. With
`tf.random.set_seed`, that pipeline takes the same order in each pass; `array_slices` knows it.

At the end of a pass Keras starts the next one, and drops it when the next epoch starts
(keras/src/trainers/epoch_iterator.py, `_enumerate_iterator`). Over arrays it is not started.
"""

from __future__ import annotations

import contextvars
import functools

from nano_init.keras_patch.faster.array_batches import ArrayBatches, applies_to, seeded_orders
from nano_init.keras_patch.faster.array_slices import is_default_strategy, is_unwatched
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Dataset

__all__ = ["array_passes_replacements"]

# The attribute of an epoch iterator while Keras goes on after a step of a pass.
_IS_BETWEEN = "_nano_init_is_between"

# The epoch iterator that is being made, if only Keras's trainer will read it.
_being_made: contextvars.ContextVar[Any] = contextvars.ContextVar("being_made", default=None)


def array_passes_replacements() -> Iterator[Replacement]:
    """Yield the replacements that shorten the passes of a trainer over arrays."""
    from keras.src.backend.tensorflow.trainer import TFEpochIterator
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter
    from keras.src.trainers.epoch_iterator import EpochIterator

    for target, name, wrap in (
        (EpochIterator, "_enumerate_iterator", _wrap_enumerate_iterator),
        (TFEpochIterator, "__init__", _wrap_init),
        (TFEpochIterator, "_get_iterator", _wrap_get_iterator),
        (ArrayDataAdapter, "get_tf_dataset", _wrap_get_tf_dataset),
    ):
        yield Replacement(target, name, wrap(vars(target)[name]))


def _wrap_init(init: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(init)
    def init_for_trainer(
        self: Any, distribute_strategy: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        token = _being_made.set(self if _is_plain(self, distribute_strategy) else None)
        try:
            init(self, distribute_strategy, *args, **kwargs)
        finally:
            _being_made.reset(token)

    return init_for_trainer


def _wrap_enumerate_iterator(enumerate_steps: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(enumerate_steps)
    def enumerate_and_note(self: Any) -> Iterator[Any]:
        steps = enumerate_steps(self)
        has_begun = False
        while True:
            setattr(self, _IS_BETWEEN, has_begun)
            try:
                step = next(steps)
            except StopIteration:
                return
            finally:
                setattr(self, _IS_BETWEEN, False)
            has_begun = True
            yield step

    return enumerate_and_note


def _wrap_get_iterator(get_iterator: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(get_iterator)
    def get_iterator_if_read(self: Any) -> Any:
        return () if _is_unread(self) else get_iterator(self)

    return get_iterator_if_read


def _wrap_get_tf_dataset(get_dataset: Callable[..., Any]) -> Callable[..., Any]:
    orders = seeded_orders(get_dataset)

    @functools.wraps(get_dataset)
    def get_tf_dataset(self: Any) -> Dataset | ArrayBatches:
        if _is_for_trainer(self) and applies_to(self):
            return ArrayBatches(self, get_dataset, orders)
        return get_dataset(self)

    return get_tf_dataset


def _is_plain(epoch_iterator: Any, strategy: Any) -> bool:
    """Say whether Keras's trainer takes batches on one device, without anything that watches."""
    from keras.src.backend.tensorflow.trainer import TFEpochIterator

    return (
        type(epoch_iterator) is TFEpochIterator and is_default_strategy(strategy) and is_unwatched()
    )


def _is_for_trainer(adapter: Any) -> bool:
    """Say whether an epoch iterator that is being made asks for a dataset, and nobody else."""
    outermost = vars(type(adapter)).get("get_tf_dataset")
    module = getattr(outermost, "__globals__", {}).get("__name__", "")
    return (
        getattr(_being_made.get(), "data_adapter", None) is adapter
        # The script has not wrapped the method.
        and module.startswith("nano_init.")
    )


def _is_unread(epoch_iterator: Any) -> bool:
    """Say whether a pass would be started, after the last batch, that the next epoch drops."""
    from keras.src.backend.tensorflow.trainer import TFEpochIterator
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    return (
        getattr(epoch_iterator, _IS_BETWEEN, False)
        and type(epoch_iterator) is TFEpochIterator
        and is_default_strategy(epoch_iterator._distribute_strategy)
        and type(epoch_iterator.data_adapter) is ArrayDataAdapter
        and epoch_iterator.steps_per_epoch is None
    )
