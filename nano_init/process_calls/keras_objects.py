"""Pickle Keras objects as a config, the classes that it names, and the compile arguments.

Values (weights, moments, counts) are sent separately, see `values`. A Keras file could not hold the
script's own losses, metrics, layers and lambdas; here they are pickled too.
"""

from __future__ import annotations

import copyreg
import types
from contextlib import contextmanager

from nano_init.errors import UsageError
from nano_init.process_calls.model_attributes import is_made_of_attributes, reduce_model

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Model

__all__ = ["is_loss", "is_valued", "reduce_loss", "reduce_valued"]

# keras/src/layers/layer.py, `Layer.get_config`
_LAYER_CONFIG = frozenset({"name", "trainable", "dtype"})

_INSTEAD = "start the script with nano-run --nproc-per-node instead"


def is_valued(thing: object) -> bool:
    """Say whether something is a Keras object with values: a layer, an optimizer, a metric."""
    import keras

    return isinstance(thing, (keras.layers.Layer, keras.optimizers.Optimizer, keras.metrics.Metric))


def is_loss(thing: object) -> bool:
    """Say whether something is a Keras loss."""
    import keras

    return isinstance(thing, keras.losses.Loss)


def reduce_valued(thing: Any) -> tuple[Any, ...]:
    """Return how to pickle a Keras object without its values, as `object.__reduce__` does.

    Raises:
        UsageError: it cannot be created again from its config.
    """
    import keras

    if is_made_of_attributes(thing):
        return reduce_model(thing)
    config, custom = _describe(thing)
    if not isinstance(thing, keras.Model):
        return _rebuild, (config, custom)
    return _rebuild, (config, custom), _compilation(thing), None, None, _compile


def reduce_loss(loss: Any) -> tuple[Any, ...]:
    """Return how to pickle a loss: as a plain object, independent of its config."""
    return copyreg.__newobj__, (type(loss),), vars(loss)  # type: ignore[attr-defined]


def _describe(thing: Any) -> tuple[Any, dict[str, Any]]:
    """Return an object's config, and the classes and functions that it names."""
    import keras

    parts = _parts(thing)
    try:
        with _named_lambdas(parts) as lambdas:
            config = keras.saving.serialize_keras_object(thing)
    except (NotImplementedError, TypeError, ValueError) as error:
        name = getattr(thing, "name", type(thing).__name__)
        raise UsageError(
            f"{type(thing).__name__} {name!r} cannot be sent to workers: {_first_line(error)}; "
            f"give its class a get_config(), or {_INSTEAD}"
        ) from error
    names = {name for name in _names_in(config) if isinstance(name, str)}
    custom = {**dict(_custom_objects(parts)), **lambdas}
    custom = {name: named for name, named in custom.items() if name in names}
    return _sendable(config, parts), custom


@contextmanager
def _named_lambdas(parts: list[Any]) -> Iterator[dict[str, Any]]:
    """Give lambdas names for the time being: Keras would store their bytecode in the config."""
    found = [p for p in parts if isinstance(p, types.FunctionType) and p.__name__ == "<lambda>"]
    named = {f"lambda_{number}_of_the_script": found[number] for number in range(len(found))}
    try:
        for name, function in named.items():
            function.__name__ = name
        yield named
    finally:
        for function in found:
            function.__name__ = "<lambda>"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _parts(thing: Any) -> list[Any]:
    """Return an object and its parts whose classes its config may name."""
    layers = list(thing._flatten_layers()) if hasattr(thing, "_flatten_layers") else [thing]
    held = [value for layer in layers for value in vars(layer).values()]
    return [*layers, *held]


def _custom_objects(parts: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the objects that a config may name and the worker cannot import."""
    import keras

    yield from keras.saving.get_custom_objects().items()
    for part in parts:
        named = part if isinstance(part, (type, types.FunctionType)) else type(part)
        if _is_unknown(named):
            yield keras.saving.get_registered_name(named), named


def _names_in(config: Any) -> Iterator[Any]:
    """Yield the names of the classes and functions in a config."""
    if isinstance(config, dict):
        is_function = config.get("class_name") == "function"
        yield config.get("config" if is_function else "registered_name")
        config = list(config.values())
    if isinstance(config, (list, tuple)):
        for item in config:
            yield from _names_in(item)


def _is_unknown(named: Any) -> bool:
    """Say whether a config lacks the module of a class or a function."""
    if isinstance(named, types.FunctionType):
        return not str(named.__module__).startswith("keras.")
    return named.__module__ == "__main__" or "<locals>" in named.__qualname__


def _sendable(config: Any, parts: list[Any]) -> Any:
    """Return a config without compile configs, and without entries that constructors do not take.

    Keras's own `get_config` always includes name, dtype and trainability.
    """
    import keras

    refused = {keras.saving.get_registered_name(type(p)): _refused(type(p)) for p in parts}

    def walk(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(walk(item) for item in value)
        if not isinstance(value, dict):
            return value
        inner = value.get("config")
        if isinstance(inner, dict):
            left_out = refused.get(value.get("registered_name"), ())
            inner = {key: item for key, item in inner.items() if key not in left_out}
        value = {key: item for key, item in value.items() if key != "compile_config"}
        return {key: walk(inner if key == "config" else item) for key, item in value.items()}

    return walk(config)


def _refused(kind: type) -> frozenset[str]:
    """Return the keys of a layer's config that the class's constructor does not take."""
    import inspect

    import keras

    if not issubclass(kind, keras.layers.Layer) or kind.__module__.startswith("keras."):
        return frozenset()
    initialize: Any = kind.__init__  # type: ignore[misc]
    taken = inspect.signature(initialize).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken):
        return frozenset()
    return _LAYER_CONFIG - {parameter.name for parameter in taken}


def _rebuild(config: Any, custom: dict[str, Any]) -> Any:
    import keras
    from keras.src.saving import object_registration

    keras.saving.get_custom_objects().update(custom)
    for name, named in custom.items():
        if ">" in name:
            object_registration.GLOBAL_CUSTOM_NAMES[named] = name
    return keras.saving.deserialize_keras_object(config, safe_mode=False)


def _compilation(model: Model) -> dict[str, Any]:
    """Return the arguments of a model's `compile`, including its optimizer."""
    if not model.compiled:
        return {}
    own = next(base for base in type(model).__mro__ if "compile" in vars(base))
    if not own.__module__.startswith("keras."):
        return _own_compilation(model, own)
    arguments = dict(model._compile_config.config)
    return {"arguments": {**arguments, "optimizer": model.optimizer}}


def _own_compilation(model: Model, own: type) -> dict[str, Any]:
    import keras

    if type(model).compile_from_config is keras.Model.compile_from_config:
        raise UsageError(
            f"{own.__name__} overrides compile(), whose arguments cannot be sent to "
            f"workers; give it get_compile_config() and compile_from_config(), or {_INSTEAD}"
        )
    return {"config": model.get_compile_config()}


def _compile(model: Model, compilation: dict[str, Any]) -> None:
    if "config" in compilation:
        model.compile_from_config(compilation["config"])
    elif compilation:
        model.compile(**compilation["arguments"])
