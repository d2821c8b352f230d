"""`fit` in several processes that it starts itself: BigDL-Nano's `num_processes`."""

from __future__ import annotations

import inspect

from nano_init.errors import UsageError
from nano_init.process_calls.call import call_in_processes
from nano_init.process_calls.dataset_server import ServedDataset

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from nano_init.keras_patch.tensor_types import Callback, Dataset, Model

__all__ = ["fit_in_processes"]

# What the script's process has done to the data by then.
_DONE = (
    "batch_size",
    "shuffle",
    "class_weight",
    "validation_split",
    "validation_batch_size",
)


def fit_in_processes(
    fit: Callable[..., Any],
    model: Model,
    arguments: tuple[Any, ...],
    named: Mapping[str, Any],
    workers: int,
) -> Callback:
    """Train a model as its `fit` does, with each batch shared by several processes.

    Args:
        fit: Keras's `fit`.
        model: the model, which has the trained values afterwards.
        arguments: its positional arguments.
        named: its keyword arguments.
        workers: how many processes.

    Returns:
        The history.

    Raises:
        UsageError: something that training needs cannot be sent to another process.
        WorkerError: a worker has failed; the model is as it was.
    """
    model._assert_compile_called("fit")
    options = _bind(fit, model, arguments, named)
    training, validation = _sources(model, options)
    _build(model, training.dataset)
    callbacks = _callbacks(options.pop("callbacks"))
    data = [None if source is None else source.dataset for source in (training, validation)]
    options = {name: value for name, value in options.items() if name not in _DONE}
    sources = {id(source.dataset): source for source in (training, validation) if source}
    outcome = call_in_processes(_fit_here, (model, *data, callbacks), options, workers, sources)
    for callback, state in zip(callbacks, outcome["callbacks"], strict=True):
        vars(callback).update(state)
    model.history = _own_history(callbacks) or _history(model, outcome)
    return model.history


def _bind(
    fit: Callable[..., Any], model: Model, arguments: tuple[Any, ...], named: Mapping[str, Any]
) -> dict[str, Any]:
    """Return all of `fit`'s arguments by their names, but for the model."""
    given = inspect.signature(fit).bind(model, *arguments, **named)
    given.apply_defaults()
    options = dict(given.arguments)
    options.pop("self")
    return options


def _sources(model: Model, options: dict[str, Any]) -> tuple[ServedDataset, ServedDataset | None]:
    """Return the training and the validation data, as Keras's `fit` makes batches of them."""
    from keras.src.trainers.data_adapters import array_slicing, data_adapter_utils

    names = ("x", "y", "sample_weight")
    x, y, weights = (options.pop(name) for name in names)
    validation = options.pop("validation_data")
    if options["validation_split"] and validation is None:
        (x, y, weights), validation = array_slicing.train_validation_split(
            (x, y, weights), validation_split=options["validation_split"]
        )
    size = options["batch_size"]
    training = _source(
        model,
        x=x,
        y=y,
        sample_weight=weights,
        batch_size=size,
        steps_per_epoch=options["steps_per_epoch"],
        shuffle=options["shuffle"],
        class_weight=options["class_weight"],
    )
    if validation is None:
        return training, None
    x, y, weights = data_adapter_utils.unpack_x_y_sample_weight(validation)
    return training, _source(
        model,
        x=x,
        y=y,
        sample_weight=weights,
        batch_size=options["validation_batch_size"] or size,
        steps_per_epoch=options["validation_steps"],
        shuffle=False,
    )


def _source(model: Model, **data: Any) -> ServedDataset:
    from keras.src.backend.tensorflow.trainer import TFEpochIterator

    epochs = TFEpochIterator(**data, distribute_strategy=model.distribute_strategy)
    epochs.reset()
    return ServedDataset(epochs.data_adapter.get_tf_dataset(), epochs)


def _build(model: Model, dataset: Dataset) -> None:
    """Make the model's variables here, so that they begin as in one process."""
    import keras

    from nano_init.distributed.training import symbolic_batch

    batch = symbolic_batch(dataset)
    # A model of sub-models need not compute anything as a whole.
    if batch is None or type(model).call is keras.Model.call:
        return
    try:
        model._symbolic_build(data_batch=batch)
    except (RuntimeError, TypeError, ValueError):
        # A step of its own may give the model something else than the data.
        if type(model).train_step is keras.Model.train_step:
            raise


def _callbacks(given: Any) -> list[Callback]:
    import keras

    if isinstance(given, keras.callbacks.CallbackList):
        raise UsageError("num_processes needs callbacks in a list, not in a CallbackList")
    return list(given) if isinstance(given, (list, tuple)) else [given] if given else []


def _own_history(callbacks: list[Callback]) -> Callback | None:
    """Return the history that the script gave as a callback, or None."""
    import keras

    return next((c for c in callbacks if isinstance(c, keras.callbacks.History)), None)


def _history(model: Model, outcome: Mapping[str, Any]) -> Callback:
    import keras

    history = keras.callbacks.History()
    history.set_model(model)
    history.set_params(outcome["params"])
    history.epoch, history.history = outcome["epoch"], outcome["history"]
    return history


def _fit_here(
    model: Model,
    training: Dataset,
    validation: Dataset | None,
    callbacks: list[Callback],
    **options: Any,
) -> dict[str, Any]:
    """Train on one worker, and return what the script is to know of it."""
    data = {"validation_data": validation, "shuffle": False}
    history = model.fit(training, callbacks=callbacks, **data, **options)
    return {
        "history": history.history,
        "epoch": history.epoch,
        "params": history.params,
        "callbacks": [_state(callback) for callback in callbacks],
    }


def _state(callback: Callback) -> dict[str, Any]:
    """Return a callback's attributes, without those that are of this process alone."""
    from nano_init.process_calls.serialize import can_come_back

    own = {n: v for n, v in vars(callback).items() if n not in ("_model", "model")}
    return {name: value for name, value in own.items() if can_come_back(value)}
