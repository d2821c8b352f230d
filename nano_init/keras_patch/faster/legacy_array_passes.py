"""Passes over small arrays in Keras 2 (`tf_keras`) without a traced pipeline, see `array_passes`.

Keras 2 too makes a pipeline with three functions for the arrays of each `fit`, `evaluate` and
`predict` (tf_keras/src/engine/data_adapter.py, `TensorLikeDataAdapter.__init__`). Here the adapter
has `LegacyBatches` in its place, unless `class_weight`, a number of steps, a strategy or a train
function of the script's needs the pipeline.

In Keras 2 one iterator gives the batches of all epochs, in a new order for each. After
`tf.random.set_seed` these are the same orders in each call. Here there may be several iterators,
one after the other. They would differ from the one where an epoch does not take all its batches: if
a training continues within an epoch, `DataHandler.enumerate_epochs` gives Keras's own.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import math

from nano_init.keras_patch.faster.array_slices import (
    SeededOrders,
    is_default_strategy,
    is_unwatched,
)
from nano_init.keras_patch.faster.legacy_array_batches import (
    LegacyBatches,
    Sizes,
    applies_to,
    found_orders,
    orders_in_use,
)
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from nano_init.keras_patch.tensor_types import Dataset

__all__ = ["legacy_array_passes_replacements"]

_FUNCTIONS = ("make_train_function", "make_test_function", "make_predict_function")

# Whether the data handler that is being made is one that only Keras's trainer reads.
_is_for_trainer: contextvars.ContextVar[bool] = contextvars.ContextVar("for_trainer", default=False)


def legacy_array_passes_replacements() -> Iterator[Replacement]:
    """Yield the replacements that shorten the passes of a trainer over arrays."""
    from tf_keras.src.engine.data_adapter import DataHandler, TensorLikeDataAdapter

    for target, name, wrap in (
        (DataHandler, "__init__", _wrap_init),
        (DataHandler, "enumerate_epochs", _wrap_enumerate_epochs),
        (TensorLikeDataAdapter, "__init__", _wrap_adapter_init),
    ):
        yield Replacement(target, name, wrap(vars(target)[name]))


def _wrap_init(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def init_for_trainer(self: Any, *args: Any, **kwargs: Any) -> None:
        token = _is_for_trainer.set(not args and _is_plain(self, kwargs))
        try:
            init(self, *args, **kwargs)
        finally:
            _is_for_trainer.reset(token)

    return init_for_trainer


def _wrap_enumerate_epochs(enumerate_epochs: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(enumerate_epochs)
    def enumerate_passes(self: Any) -> Iterator[tuple[int, Any]]:
        batches = self._dataset
        epochs = range(self._initial_epoch, self._epochs)
        is_whole = isinstance(batches, LegacyBatches) and self._initial_step == 0
        if is_whole and len(epochs) == batches.passes:
            return _enumerate(self, epochs, batches)
        pairs: Iterator[tuple[int, Any]] = enumerate_epochs(self)
        return pairs

    return enumerate_passes


def _enumerate(handler: Any, epochs: range, batches: LegacyBatches) -> Iterator[tuple[int, Any]]:
    """Yield what Keras's `enumerate_epochs` yields."""
    iterators = batches.iterators()
    with handler._truncate_execution_to_epoch():
        for epoch in epochs:
            if handler._insufficient_data:
                break
            # For lists of numbers, each epoch is a first one.
            if handler._adapter.should_recreate_iterator():
                iterators = batches.iterators()
            yield epoch, next(iterators)
            handler._adapter.on_epoch_end()


def _wrap_adapter_init(init: Callable[..., None]) -> Callable[..., None]:
    orders = SeededOrders(functools.partial(found_orders, init))
    signature = inspect.signature(init)

    @functools.wraps(init)
    def init_with_slices(self: Any, *args: Any, **kwargs: Any) -> None:
        if not (_is_for_trainer.get() and _is_own(self)):
            init(self, *args, **kwargs)
            return
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        batches = None
        if applies_to(bound.arguments):
            batches = _batches(type(self), bound.arguments, init, orders)
        if batches is None:
            init(self, *args, **kwargs)
        else:
            _prepare(self, bound.arguments, batches)

    return init_with_slices


def _batches(
    kind: Any, options: Mapping[str, Any], init: Callable[..., None], orders: SeededOrders
) -> LegacyBatches | None:
    """Return the batches in place of a pipeline; None if their order is not known."""
    import tensorflow as tf
    from tf_keras.src.engine import data_adapter

    data = data_adapter._process_tensorlike((options["x"], options["y"], options["sample_weights"]))
    inputs = data_adapter.pack_x_y_sample_weight(*data)
    rows = {int(array.shape[0]) for array in tf.nest.flatten(inputs)}
    # Keras itself says what is wrong with other numbers of rows.
    if len(rows) != 1 or rows == {0}:
        return None
    sizes = Sizes(rows.pop(), options["batch_size"] or 32, options["epochs"])
    in_use = orders_in_use(orders, sizes) if options["shuffle"] else None
    if options["shuffle"] and in_use is None:
        return None

    def pipeline() -> Dataset:
        twin = object.__new__(kind)
        passed = ("batch_size", "epochs", "shuffle")
        init(twin, *data, **{name: options[name] for name in passed})
        return twin._dataset

    return LegacyBatches(inputs, sizes, in_use, pipeline)


def _prepare(adapter: Any, options: Mapping[str, Any], batches: LegacyBatches) -> None:
    """Do what Keras's `__init__` does, with other batches."""
    from tf_keras.src.engine.data_adapter import DataAdapter

    DataAdapter.__init__(adapter, options["x"], options["y"], **options["kwargs"])
    sizes = batches.sizes
    adapter._size = math.ceil(sizes.rows / sizes.batch)
    adapter._batch_size = sizes.batch
    adapter._partial_batch_size = sizes.rows % sizes.batch
    adapter._shuffle = options["shuffle"]
    adapter._dataset = batches


def _is_own(adapter: Any) -> bool:
    from tf_keras.src.engine.data_adapter import TensorLikeDataAdapter

    return type(adapter) is TensorLikeDataAdapter


def _is_plain(handler: Any, options: Mapping[str, Any]) -> bool:
    """Say whether Keras's trainer takes all batches of each epoch, on one device."""
    import tensorflow as tf
    from tf_keras.src.engine.data_adapter import DataHandler
    from tf_keras.src.engine.training import Model

    model = options.get("model")
    return bool(
        type(handler) is DataHandler
        and isinstance(model, Model)
        and all(
            getattr(type(model), name) is getattr(Model, name) and name not in vars(model)
            for name in _FUNCTIONS
        )
        # It changes the number of steps per execution at any time.
        and not model.autotune_steps_per_execution
        and options.get("steps_per_epoch") is None
        and not options.get("class_weight")
        and not options.get("pss_evaluation_shards")
        and options.get("distribute", True)
        and is_default_strategy(tf.distribute.get_strategy())
        and is_unwatched()
    )
