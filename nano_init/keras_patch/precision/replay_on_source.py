"""Find the original values of a rounded tensor through ops that only move its elements.

`ids[:, 0]` of rounded ids is rounded too. In a graph the slice can be traced back to the rounded
tensor and repeated on the original. In eager mode there is no graph to trace.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import DType, Tensor

__all__ = ["repeat_on_origin"]

# Ops that neither compute nor compare, with the index of their data input.
_DATA_INPUT = {
    "BroadcastTo": 0,
    "ExpandDims": 0,
    "GatherV2": 0,
    "Identity": 0,
    "RaggedTensorToTensor": 1,
    "Reshape": 0,
    "Slice": 0,
    "SparseToDense": 2,
    "Squeeze": 0,
    "StridedSlice": 0,
    "Tile": 0,
    "Transpose": 0,
    "Unpack": 0,
}


def repeat_on_origin(value: Any, origin_of: Callable[[Any], Tensor | None]) -> Tensor | None:
    """Return a tensor's original values, or None if they cannot be found.

    Args:
        value: The tensor to be widened.
        origin_of: Returns what a tensor was rounded from; None for any other tensor.
    """
    import tensorflow as tf

    origin = origin_of(value)
    if origin is not None or not isinstance(value, tf.Tensor):
        return origin
    if isinstance(value, tf.__internal__.EagerTensor) or value.op.type not in _DATA_INPUT:
        return None
    # Created in the graph of the op itself, because it may be used in an inner graph.
    with value.graph.as_default():
        data = repeat_on_origin(value.op.inputs[_DATA_INPUT[value.op.type]], origin_of)
        return None if data is None else _repeat(value, data)


def _repeat(value: Tensor, data: Tensor) -> Tensor:
    from tensorflow.python.framework import op_def_library

    operation = value.op
    definition = operation.op_def
    inputs = {}
    for place, (argument, given) in enumerate(_arguments(operation)):
        is_data = place == _DATA_INPUT[operation.type]
        inputs[argument.name] = data if is_data else _matching(given, data.dtype)
    inferred = {name for arg in definition.input_arg for name in (arg.type_attr, arg.number_attr)}
    inferred |= {arg.type_list_attr for arg in definition.input_arg}
    attributes = {a.name: operation.get_attr(a.name) for a in definition.attr}
    chosen = {name: given for name, given in attributes.items() if name not in inferred}
    outputs = op_def_library._apply_op_helper(operation.type, **inputs, **chosen)[-1]
    return outputs[value.value_index] if isinstance(outputs, list) else outputs


def _arguments(operation: Any) -> Iterator[tuple[Any, Any]]:
    given = list(operation.inputs)
    for argument in operation.op_def.input_arg:
        if argument.number_attr:
            count = operation.get_attr(argument.number_attr)
            yield argument, [given.pop(0) for _ in range(count)]
        else:
            yield argument, given.pop(0)


def _matching(given: Any, dtype: DType) -> Any:
    import tensorflow as tf

    if isinstance(given, tf.Tensor) and given.dtype == tf.bfloat16:
        return tf.cast(given, dtype)
    return given
