"""`fit` in several processes, which it starts itself: BigDL-Nano's `num_processes`."""

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

# What the script's process has already done to the data.
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
    """Train a model as its `fit` does, with each batch divided among several processes.

    Args:
        fit: Keras's `fit`.
        model: the model; it has the trained values afterwards.
        arguments: its positional arguments.
        named: its keyword arguments.
        workers: the number of processes.

    Returns:
        The history.

    Raises:
        UsageError: something that training needs cannot be sent to another process.
        WorkerError: a worker failed; the model is unchanged.
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
    """Return all arguments of `fit` by name, except the model."""
    given = inspect.signature(fit).bind(model, *arguments, **named)
    given.apply_defaults()
    options = dict(given.arguments)
    options.pop("self")
    return options


def _sources(model: Model, options: dict[str, Any]) -> tuple[ServedDataset, ServedDataset | None]:
    """Return the training and validation data in batches, as Keras's `fit` forms them."""
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
    """Create the model's variables here, so that they start as in one process."""
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
        raise UsageError("num_processes needs a list of callbacks, not a CallbackList")
    return list(given) if isinstance(given, (list, tuple)) else [given] if given else []


def _own_history(callbacks: list[Callback]) -> Callback | None:
    """Return the History that the script passed as a callback, or None."""
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
    """Train on one worker, and return the results for the script."""
    data = {"validation_data": validation, "shuffle": False}
    history = model.fit(training, callbacks=callbacks, **data, **options)
    return {
        "history": history.history,
        "epoch": history.epoch,
        "params": history.params,
        "callbacks": [_state(callback) for callback in callbacks],
    }


def _state(callback: Callback) -> dict[str, Any]:
    """Return a callback's attributes, without those that only make sense in this process."""
    from nano_init.process_calls.serialize import can_come_back

    own = {n: v for n, v in vars(callback).items() if n not in ("_model", "model")}
    return {name: value for name, value in own.items() if can_come_back(value)}
