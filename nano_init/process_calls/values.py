"""Copy the values of Keras objects from one process to another.

Objects created from the same config hold their variables in the same order.
"""

from __future__ import annotations

from nano_init.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from nano_init.keras_patch.tensor_types import Layer, Variable

__all__ = ["give_values", "take_values"]


def take_values(objects: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the values of Keras objects, as NumPy arrays.

    In a job all workers must call this: a metric's count is the sum over them.

    Args:
        objects: Layers, models, optimizers and metrics.
    """
    import keras

    places = {
        id(variable): (number, place)
        for number, thing in enumerate(objects)
        if isinstance(thing, keras.layers.Layer)
        for place, variable in enumerate(thing.variables)
    }
    taken = []
    for thing in objects:
        values: dict[str, Any] = {"variables": _arrays(thing.variables)}
        if isinstance(thing, keras.layers.Layer):
            values["build"] = thing.get_build_config() if thing.built else None
            values["trainable"] = [layer.trainable for layer in thing._flatten_layers()]
        if isinstance(thing, keras.Model):
            values["metrics"] = _arrays(thing.metrics_variables)
            values["stop_training"] = getattr(thing, "stop_training", None)
        if isinstance(thing, keras.optimizers.Optimizer) and thing.built:
            trained = [places.get(id(v)) for v in thing._trainable_variables]
            values["trained"] = None if None in trained else trained
        taken.append(values)
    return taken


def give_values(objects: Sequence[Any], taken: Sequence[dict[str, Any]]) -> None:
    """Set the values of objects to those of their counterparts, all or none.

    Args:
        objects: Layers, models, optimizers and metrics.
        taken: What `take_values` returned for their counterparts.

    Raises:
        UsageError: an object has other variables than its counterpart.
    """
    import keras

    def is_layer(thing: Any) -> bool:
        return isinstance(thing, keras.layers.Layer)

    pairs = list(zip(objects, taken, strict=True))
    for thing, values in pairs:
        if is_layer(thing):
            _build(thing, values)
    for thing, values in pairs:
        if values.get("trained") is not None and not thing.built:
            thing.build([objects[number].variables[place] for number, place in values["trained"]])
    # A layer or a metric may also belong to a model; then the model's values are the right ones.
    pairs.sort(key=lambda pair: isinstance(pair[0], keras.Model))
    assignments = [pair for thing, values in pairs for pair in _assignments(thing, values)]
    for variable, value in assignments:
        variable.assign(value)
    for thing, values in pairs:
        if values.get("stop_training") is not None:
            thing.stop_training = values["stop_training"]


def _build(layer: Layer, values: dict[str, Any]) -> None:
    if not layer.built and values["build"]:
        layer.build_from_config(values["build"])
    parts = list(layer._flatten_layers())
    if len(parts) == len(values["trainable"]):
        for part, trainable in zip(parts, values["trainable"], strict=True):
            if part.trainable != trainable:
                part.trainable = trainable


def _assignments(thing: Any, values: dict[str, Any]) -> list[tuple[Variable, Any]]:
    import keras

    variables, arrays = list(thing.variables), values["variables"]
    if isinstance(thing, keras.Model) and len(thing.metrics_variables) == len(values["metrics"]):
        variables += thing.metrics_variables
        arrays = [*arrays, *values["metrics"]]
    if isinstance(thing, (keras.metrics.Metric, keras.optimizers.Optimizer)) and not variables:
        return []  # not used yet; it is created on first use
    shapes = [tuple(variable.shape) for variable in variables]
    if shapes != [array.shape for array in arrays]:
        raise UsageError(
            f"{type(thing).__name__} {getattr(thing, 'name', '')!r} has other variables when it "
            "is created again from its config; give its class a get_config() with all its arguments"
        )
    return list(zip(variables, arrays, strict=True))


def _arrays(variables: Sequence[Variable]) -> list[Any]:
    import keras

    return [keras.ops.convert_to_numpy(variable) for variable in variables]
