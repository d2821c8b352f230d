"""Convert an existing model to another precision, in place."""

from __future__ import annotations

from nano_init.errors import PatchError, UsageError
from nano_init.plan.precision import check_precision

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Layer, Model

__all__ = ["convert", "layers_kept_in_float32"]


def convert(
    model: Model, precision: str, keep_float32: Iterable[str | type] | None = None
) -> list[str]:
    """Convert a built or loaded model to a precision, and back.

    Only the dtype policies change. Weights are float32 before and after, and layers with another
    policy (float64, int64, quantized) are not changed. The functions that `fit`, `evaluate` and
    `predict` traced before are discarded; functions that you traced yourself keep their precision.

    Args:
        model: A Keras model.
        precision: `"mixed_bfloat16"` or `"float32"`.
        keep_float32: Layers to leave in float32, including the layers inside them: names, paths,
            `fnmatch` patterns of these, or layer classes. By default the layers that produce the
            model's outputs and those with a softmax; `()` keeps none.

    Returns:
        The paths of the layers whose policy was changed.

    Raises:
        PrecisionError: The precision is unknown or unfit for training.
        UsageError: `model` is not a Keras model, or `keep_float32` names no layer of it.
        PatchError: The model has no trainable floating variable, or this is called inside a
            `tf.function`.
    """
    wanted = check_precision(precision, auto=False)
    _check_model(model)
    current = "float32" if wanted == "mixed_bfloat16" else "mixed_bfloat16"
    kept = _kept(model, keep_float32) if wanted == "mixed_bfloat16" else set()
    changed = []
    for layer in model._flatten_layers():
        if id(layer) not in kept and layer.dtype_policy.name == current:
            layer.dtype_policy = wanted
            changed.append(layer.path or layer.name)
    model.train_function = model.test_function = model.predict_function = None
    return changed


def layers_kept_in_float32(model: Model) -> list[Layer]:
    """Return the layers that conversion leaves in float32 by default.

    Args:
        model: A Keras model. For a subclassed model, whose output layers are unknown, the last
            layer is used.
    """
    import keras

    layers = model._flatten_layers(include_self=False)
    softmax = [x for x in layers if getattr(x, "activation", None) is keras.activations.softmax]
    outputs = getattr(model, "outputs", None)
    if outputs:
        heads = [head for output in outputs for head in _heads(output)]
    else:
        heads = model.layers[-1:]
    return [*heads, *softmax]


def _heads(tensor: Any) -> Iterator[Any]:
    # An activation or a reshape at the end: the layer with weights before it is the head.
    import keras

    operation = tensor._keras_history.operation
    if isinstance(operation, keras.layers.InputLayer):
        return
    yield operation
    if not getattr(operation, "weights", None):
        node = operation._inbound_nodes[tensor._keras_history.node_index]
        for previous in node.input_tensors:
            yield from _heads(previous)


def _check_model(model: Any) -> None:
    import keras
    import tensorflow as tf

    if not isinstance(model, keras.Model):
        raise UsageError(f"convert takes a Keras model, not {type(model).__name__}")
    if tf.inside_function():
        raise PatchError("convert was called inside a tf.function; call it before tracing")
    floating = ("float16", "bfloat16", "float32", "float64")
    if model.built and not any(v.dtype in floating for v in model.trainable_variables):
        raise PatchError(f"model {model.name!r} has no trainable floating variable to convert for")


def _kept(model: Model, keep_float32: Iterable[str | type] | None) -> set[int]:
    if keep_float32 is None:
        layers = layers_kept_in_float32(model)
    else:
        layers = [layer for rule in keep_float32 for layer in _matching(model, rule)]
    return {id(inner) for layer in layers for inner in _with_inner_layers(layer)}


def _with_inner_layers(layer: Any) -> list[Layer]:
    flatten = getattr(layer, "_flatten_layers", None)
    return list(flatten()) if flatten else []


def _matching(model: Model, rule: str | type) -> list[Layer]:
    from fnmatch import fnmatchcase

    layers = model._flatten_layers(include_self=False)
    if isinstance(rule, type):
        found = [layer for layer in layers if isinstance(layer, rule)]
    else:
        found = [x for x in layers if fnmatchcase(x.name, rule) or fnmatchcase(x.path or "", rule)]
    if not found:
        name = rule.__name__ if isinstance(rule, type) else rule
        raise UsageError(f"keep_float32 names {name!r}, but model {model.name!r} has no such layer")
    return found
