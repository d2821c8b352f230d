"""Ids, labels and other large numbers reach the layer that needs them unrounded.

bfloat16 represents integers exactly only up to 256. Keras 3 casts a model's inputs to it in two
places: a Sequential without an Input takes the first layer's compute dtype for its input
(keras/src/models/sequential.py, `build`), and every layer casts its floating inputs
(keras/src/dtype_policies/dtype_policy.py, `convert_input`). The first becomes float32 here. The
second remains, but the cast tensor remembers its original: a layer that casts it further (Embedding
to int32, normalization layers to float32) gets the original.
"""

from __future__ import annotations

import functools

from nano_init.fingerprints.known_sources import minor_of
from nano_init.keras_patch.ledger import Replacement
from nano_init.keras_patch.precision.casting import remember_autocast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Layer, Model

__all__ = ["exact_input_replacements"]

# The dtype of a symbolic tensor before Keras 3.3 or 3.4 cast it for one layer.
_OWN_DTYPE = "_nano_init_own_dtype"


def exact_input_replacements() -> Iterator[Replacement]:
    """Yield the replacements that keep a model's inputs exact for the layer that needs them."""
    from keras.src.dtype_policies.dtype_policy import DTypePolicy
    from keras.src.models.functional import Functional
    from keras.src.models.sequential import Sequential
    from keras.src.ops.core import Cast
    from keras.src.ops.operation import Operation

    yield _wrapped(Sequential, "build", _wrap_build)
    yield _wrapped(Functional, "_convert_inputs_to_tensors", _wrap_convert_inputs)
    yield _wrapped(DTypePolicy, "convert_input", _wrap_convert_input)
    if _casts_change_specs():
        yield _wrapped(Operation, "symbolic_call", _wrap_symbolic_call)
    if _casts_are_nodes():
        yield _wrapped(Cast, "call", _wrap_cast_node)


def _wrapped(target: Any, name: str, wrap: Callable[[Any], Any]) -> Replacement:
    return Replacement(target, name, wrap(vars(target)[name]))


def _wrap_build(build: Callable[..., Any]) -> Callable[..., Any]:
    from keras.src.backend import standardize_shape
    from keras.src.layers.core.input_layer import InputLayer

    @functools.wraps(build)
    def build_with_wide_input(self: Model, input_shape: Any = None) -> Any:
        layers = self._layers
        if layers and not isinstance(layers[0], InputLayer) and _is_narrow(layers[0]):
            try:
                shape = standardize_shape(input_shape)
            except (TypeError, ValueError):
                # Several inputs: Keras then calls the layers one by one, without a cast before.
                return build(self, input_shape)
            self._layers = [InputLayer(batch_shape=shape, dtype=_input_dtype(layers[0])), *layers]
            # Keras 3.3 compares the two shapes, and treats a list as different from a tuple.
            return build(self, shape)
        return build(self, input_shape)

    return build_with_wide_input


def _is_narrow(layer: Layer) -> bool:
    return bool(layer.compute_dtype == "bfloat16" and layer.variable_dtype == "float32")


def _input_dtype(layer: Layer) -> str:
    from keras.layers import Embedding

    return "int32" if isinstance(layer, Embedding) else "float32"


def _wrap_convert_inputs(convert: Callable[..., Any]) -> Callable[..., Any]:
    # A file saved by bare Keras may say that the model's input itself is bfloat16.
    @functools.wraps(convert)
    def convert_to_wide_tensors(self: Model, flat_inputs: Any) -> Any:
        if any(spec.dtype == "bfloat16" for spec in self._inputs):
            pairs = zip(flat_inputs, self._inputs, strict=False)
            flat_inputs = [_remembered_as(x, spec.dtype) for x, spec in pairs]
        return convert(self, flat_inputs)

    return convert_to_wide_tensors


def _remembered_as(value: Any, dtype: str) -> Any:
    from keras.src import backend

    if dtype != "bfloat16" or value is None or backend.is_keras_tensor(value):
        return value
    tensor = backend.convert_to_tensor(value)
    return remember_autocast(backend.cast(tensor, dtype), tensor)


def _wrap_convert_input(convert: Callable[..., Any]) -> Callable[..., Any]:
    import tensorflow as tf

    @functools.wraps(convert)
    def convert_and_remember(self: Any, x: Any, autocast: Any, dtype: Any) -> Any:
        own_dtype = getattr(x, "dtype", None)
        converted = convert(self, x, autocast, dtype)
        if converted is not x and tf.is_tensor(converted):
            return remember_autocast(converted, x)
        if converted is x and own_dtype is not None and x.dtype != own_dtype:
            setattr(x, _OWN_DTYPE, own_dtype)
        elif converted is not x:
            _widen_cast_node(converted)
        return converted

    return convert_and_remember


def _casts_change_specs() -> bool:
    # Keras 3.3 and 3.4 cast a symbolic tensor by changing its dtype, for all its consumers.
    import keras

    return minor_of(keras.__version__) in ("3.3", "3.4")


def _wrap_symbolic_call(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def call_and_restore(self: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = call(self, *args, **kwargs)
        _restore_own_dtypes((args, kwargs))
        return outputs

    return call_and_restore


def _restore_own_dtypes(arguments: Any) -> None:
    from keras.src import tree

    for argument in tree.flatten(arguments):
        own_dtype = getattr(argument, _OWN_DTYPE, None)
        if own_dtype is not None:
            argument.dtype = own_dtype
            delattr(argument, _OWN_DTYPE)


def _casts_are_nodes() -> bool:
    # Earlier versions of Keras 3 made the layer's own cast a node of a functional model; later
    # ones keep the layer's original arguments for the node (keras/src/layers/layer.py).
    import inspect

    from keras.src.layers.layer import Layer

    return "original_args" not in inspect.unwrap(vars(Layer)["__call__"]).__code__.co_varnames


def _widen_cast_node(converted: Any) -> None:
    """Change the node of a layer's own cast to bfloat16 into one to float32.

    The layer casts its input again, so its results stay the same, but files and exported models
    do not contain nano-init's bfloat16.
    """
    from keras.src.ops.core import Cast

    operation = getattr(getattr(converted, "_keras_history", None), "operation", None)
    if isinstance(operation, Cast) and operation.dtype == "bfloat16":
        operation.dtype = "float32"
        config = getattr(operation._auto_config, "config", None)
        if config is not None:
            config["dtype"] = "float32"


def _wrap_cast_node(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def call_and_remember(self: Any, x: Any) -> Any:
        return remember_autocast(call(self, x), x)

    return call_and_remember
