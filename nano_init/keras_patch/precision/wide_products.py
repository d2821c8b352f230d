"""Multiply bfloat16 in float32 on processors that are faster that way.

A processor without a bfloat16 unit emulates one, and some Intel processors have one that is half as
fast as float32 (`nano_init/plan/precision.py`). There, products and convolutions take their
operands in float32, and their results are rounded to bfloat16. oneDNN's bfloat16 kernels compute
the same: they add in float32 and round once.

For a tape the op stays one of bfloat16 tensors. So its gradient widens them again, and only
bfloat16 tensors wait for the backward pass. With a tape, weights need no cast at all, since the
variable is float32, and a bias or ReLU takes the product before it is rounded. Without one, an op
takes what it is given: `tf.gradients` and the feeds of a session go by the ops of the graph.
"""

from __future__ import annotations

import functools

from nano_init.keras_patch.faster.recording import is_recorded
from nano_init.keras_patch.precision.backward_pass import is_backward_pass
from nano_init.keras_patch.precision.casting import remember_unrounded, unrounded
from nano_init.keras_patch.precision.operands import as_tensors, input_names
from nano_init.keras_patch.precision.replay_on_source import repeat_on_origin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from nano_init.keras_patch.tensor_types import DType, Tensor

__all__ = ["execute_wide", "is_widened", "trace_wide"]

_PRODUCTS = frozenset(
    {
        "BatchMatMul",
        "BatchMatMulV2",
        "Conv2D",
        "Conv2DBackpropFilter",
        "Conv2DBackpropInput",
        "Conv3D",
        "Conv3DBackpropFilterV2",
        "Conv3DBackpropInputV2",
        "Einsum",
        "MatMul",
    }
)

# They take all operands as one list.
_LISTED = frozenset({"Einsum"})

# Ops that oneDNN computes together with the product before them. They take the product as it is
# before it is rounded, so that TensorFlow still fuses the two.
_EPILOGUES = frozenset({"BiasAdd", "Relu"})

# A tensor's float32 copy, and whether the backward pass made it.
_COPY = "_nano_wide_copy"


def is_widened(op: str) -> bool:
    """Say whether an op of bfloat16 operands may run in float32 on this processor.

    Args:
        op: The op's type.
    """
    from nano_init.keras_patch.faster.processor import is_slow_in_bfloat16

    return (op in _PRODUCTS or op in _EPILOGUES) and is_slow_in_bfloat16()


def execute_wide(execute: Callable[..., Any], arguments: tuple[Any, ...]) -> Tensor | None:
    """Run a product eagerly in float32; return None if its operands are not bfloat16.

    Args:
        execute: TensorFlow's `TFE_Py_FastPathExecute`.
        arguments: Its arguments: a context, the op's type and name, the inputs, and attributes.
    """
    import tensorflow as tf

    context, op, name, *operands = arguments
    if op not in _PRODUCTS:
        return None
    places = _places(op)
    narrow = _all_bfloat16(op, [operands[place] for place in places])
    if narrow is None:
        return None
    wide = [tf.raw_ops.Cast(x=tensor, DstT=tf.float32) for tensor in narrow]
    for place, operand in _by_argument(op, places, wide):
        operands[place] = operand
    # Lists and numbers would take a slower path, with unchanged operands.
    operands[: len(input_names(op))] = as_tensors(op, operands)
    product = execute(context, op, name, *operands)
    return tf.raw_ops.Cast(x=product, DstT=tf.bfloat16)


def trace_wide(
    apply: Callable[..., Any], op: str, name: Any, operands: dict[str, Any]
) -> tuple[Any, ...] | None:
    """Create a product in a graph that runs in float32; return None if it should not.

    Args:
        apply: TensorFlow's `_apply_op_helper`, whose results are returned.
        op: The op's type.
        name: The op's name, or None.
        operands: Its inputs and attributes by name.
    """
    import tensorflow as tf

    names = _names(op)
    narrow = _all_bfloat16(op, [operands.get(each) for each in names])
    if narrow is None or "T" in operands:
        return None
    if op in _PRODUCTS:
        wide = [_widened(apply, tensor, narrow) for tensor in narrow]
    else:
        product = unrounded(narrow[0]) if _has_tape() else None
        if product is None:
            return None
        wide = [product, *(_widened(apply, tensor, narrow) for tensor in narrow[1:])]
    changed = {**operands, **dict(_by_argument(op, names, wide))}
    # The rounded result has the name by which a script may look for it. A name with a slash at its
    # end is complete.
    outer = name or op
    inner = "float32" if outer.endswith("/") else f"{outer}/float32"
    structure, is_stateful, operation, outputs = apply(op, inner, **changed)
    rounded = _cast(apply, outputs[0], tf.bfloat16, outer)
    remember_unrounded(rounded, outputs[0])
    return structure, is_stateful, _NarrowOperation(operation, narrow), [rounded]


class _NarrowOperation:
    """An op as it would be in bfloat16, for the tape that records it.

    Args:
        operation: The op that runs, in float32.
        narrow: Its bfloat16 operands, in order.
    """

    def __init__(self, operation: Any, narrow: Sequence[Tensor]) -> None:
        import tensorflow as tf

        remaining = iter(narrow)
        self._operation = operation
        self.inputs = tuple(
            next(remaining) if tensor.dtype == tf.float32 else tensor for tensor in operation.inputs
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._operation, name)

    def _get_attr_type(self, name: str) -> Any:
        import tensorflow as tf

        return tf.bfloat16.as_datatype_enum if name == "T" else self._operation._get_attr_type(name)


def _all_bfloat16(op: str, given: Sequence[Any]) -> list[Tensor] | None:
    """Return an op's operands as tensors, or None if they are not all bfloat16."""
    import tensorflow as tf

    flat = given[0] if op in _LISTED else given
    if not any(isinstance(item, tf.Tensor) and item.dtype == tf.bfloat16 for item in flat):
        return None
    try:
        # A variable converts itself to the dtype that its layer computes in.
        tensors = [
            each if isinstance(each, tf.Tensor) else tf.convert_to_tensor(each) for each in flat
        ]
    except (TypeError, ValueError):  # TensorFlow's own error names the operand
        return None
    return tensors if all(tensor.dtype == tf.bfloat16 for tensor in tensors) else None


def _by_argument(op: str, keys: Sequence[Any], tensors: Sequence[Tensor]) -> Iterable[Any]:
    """Return pairs of an argument's key and its value."""
    return [(keys[0], list(tensors))] if op in _LISTED else zip(keys, tensors, strict=True)


def _widened(apply: Callable[..., Any], tensor: Tensor, operands: Sequence[Tensor]) -> Tensor:
    """Return an operand in float32: its variable, a copy that exists already, or a new one."""
    import tensorflow as tf

    weight = _weight_behind(tensor)
    if weight is not None:
        return weight
    # A copy that is made in control flow of TensorFlow 1 is only for that.
    if not _is_in_this_graph(tensor) or tensor.graph._get_control_flow_context() is not None:
        return _cast(apply, tensor, tf.float32)
    known = getattr(tensor, _COPY, None)
    is_backward = is_backward_pass()
    if known is not None and known[1] == is_backward:
        known[0].set_shape(tensor.shape)
        return known[0]
    # TensorFlow merges equal ops. The backward pass needs its own copy, so that the forward pass
    # can free its own: one that waits for the gradient is not equal.
    waits_for = _others(tensor, operands) if is_backward else []
    graph = tensor.graph
    with graph.control_dependencies(None), graph.control_dependencies(waits_for):
        copy = _cast(apply, tensor, tf.float32)
    setattr(tensor, _COPY, (copy, is_backward))
    return copy


def _others(tensor: Tensor, operands: Sequence[Tensor]) -> list[Tensor]:
    """Return the operands that an op can wait for without computing more."""
    others = [each for each in operands if each is not tensor and _is_in_this_graph(each)]
    return [each for each in others if _weight_behind(each) is None]


def _weight_behind(tensor: Tensor) -> Tensor | None:
    """Return the float32 variable that a tensor was cast from, moved as the tensor was."""
    if not _has_tape() or not _is_in_this_graph(tensor):
        return None
    return repeat_on_origin(tensor, _read_before_cast)


def _read_before_cast(tensor: Tensor) -> Tensor | None:
    import tensorflow as tf

    operation = tensor.op
    if operation.type != "Cast":
        return None
    source = operation.inputs[0]
    is_weight = source.dtype == tf.float32 and source.op.type == "ReadVariableOp"
    return source if is_weight else None


def _has_tape() -> bool:
    """Say whether gradients go by what a tape has recorded, not by the ops of the graph."""
    return is_recorded() or is_backward_pass()


def _is_in_this_graph(tensor: Tensor) -> bool:
    import tensorflow as tf
    from tensorflow.python.framework.ops import get_default_graph

    is_eager = isinstance(tensor, tf.__internal__.EagerTensor)
    return not is_eager and tensor.graph is get_default_graph()


def _cast(
    apply: Callable[..., Any], tensor: Tensor, dtype: DType, name: str | None = None
) -> Tensor:
    """Cast without a tape: it records the op as one of the uncast tensors."""
    return apply("Cast", name, x=tensor, DstT=dtype, Truncate=False)[-1][0]


@functools.cache
def _places(op: str) -> tuple[int, ...]:
    return tuple(place for place, argument in enumerate(_inputs(op)) if argument.type_attr == "T")


@functools.cache
def _names(op: str) -> tuple[str, ...]:
    return tuple(argument.name for argument in _inputs(op) if argument.type_attr == "T")


def _inputs(op: str) -> Any:
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(op).input_arg
