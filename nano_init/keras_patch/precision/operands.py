"""Decide to which dtype an op's operands are converted.

Operands are converted if TensorFlow would refuse the op, because bfloat16 is mixed with float32 or
there is no bfloat16 kernel for CPUs, and for a few ops whose bfloat16 results are wrong.
Contractions then run in bfloat16, everything else in float32. PyTorch's autocast follows the same
rule: a list of ops in the narrow dtype, and the widest operand for ops that take several
(docs/source/amp.md, "Ops that promote to the widest input type", version 2.9).
"""

from __future__ import annotations

import functools

from nano_init.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import DType, Tensor, Variable

__all__ = ["agree", "are_mixed", "as_tensors", "dtypes_in", "input_names", "is_capable", "is_wide"]

# The allow list of TensorFlow's own graph rewrite for bfloat16 on CPUs, with the gradients of
# its entries (tensorflow/core/grappler/optimizers/auto_mixed_precision_lists.h, version 2.21).
_CONTRACTIONS = frozenset(
    {
        "BatchMatMul",
        "BatchMatMulV2",
        "BatchMatMulV3",
        "BiasAdd",
        "Conv2D",
        "Conv2DBackpropFilter",
        "Conv2DBackpropInput",
        "Conv3D",
        "Conv3DBackpropFilterV2",
        "Conv3DBackpropInputV2",
        "DepthwiseConv2dNative",
        "DepthwiseConv2dNativeBackpropFilter",
        "DepthwiseConv2dNativeBackpropInput",
        "Einsum",
        "MatMul",
    }
)

# Ops whose bfloat16 kernels add in bfloat16, so that a sum stops at 256 times the next term, or
# whose gradients do not accept bfloat16 (TensorFlow 2.21: core/kernels/bias_op.cc, scan_ops.cc,
# segment_reduction_ops_impl.h, scatter_nd_op.cc; python/ops/image_grad.py, `_ResizeBicubicGrad`;
# python/ops/image_ops.py, `_image_projective_transform_v3_grad`). PyTorch's autocast has
# cumulative sums and norms on its float32 list too.
_WIDE = frozenset(
    {
        "BiasAddGrad",
        "Cumprod",
        "Cumsum",
        "CumulativeLogsumexp",
        "ImageProjectiveTransformV2",
        "ImageProjectiveTransformV3",
        "ResizeBicubic",
        "ScatterNd",
        "SegmentMean",
        "SegmentProd",
        "SegmentSum",
        "SparseSegmentMean",
        "SparseSegmentSqrtN",
        "SparseSegmentSum",
        "SparseTensorDenseMatMul",
        "TensorScatterAdd",
        "TensorScatterSub",
        "UnsortedSegmentProd",
        "UnsortedSegmentSum",
    }
)

# Python code behind these ops reads its operands as NumPy arrays, which have no bfloat16.
_PYTHON_CALLS = frozenset({"EagerPyFunc", "PyFunc", "PyFuncStateless"})

# Casts and bit copies specify a dtype, so there is nothing to convert.
_LEFT_ALONE = frozenset({"Bitcast", "Cast"})


@frozen
class _Group:
    """The operands of an op that must have one dtype.

    Args:
        places: their positions among the op's inputs.
        has_kernel: whether a CPU kernel takes bfloat16 for them.
    """

    places: tuple[int, ...]
    has_kernel: bool


def agree(op: str, operands: tuple[Any, ...], *, arrays: bool = False) -> dict[int, Any]:
    """Return the operands to convert so that an op can run, by position; empty for none.

    Args:
        op: The op's type, such as "AddV2".
        operands: Its inputs in the order of its definition; a list input is a list. Further
            elements are ignored.
        arrays: Whether NumPy arrays and Python numbers count as operands of the tensors' dtype.
    """
    import tensorflow as tf

    changed: dict[int, Any] = {}
    for group in _groups(op):
        members = [(place, operands[place]) for place in group.places if place < len(operands)]
        found = {dtype for _, operand in members for dtype in dtypes_in(operand)}
        if tf.bfloat16 not in found:
            continue
        is_mixed = tf.float32 in found or (
            arrays and _has_arrays(operand for _, operand in members)
        )
        if group.has_kernel and not is_mixed:
            continue
        dtype = tf.bfloat16 if group.has_kernel and op in _CONTRACTIONS else tf.float32
        for place, operand in members:
            changed[place] = _as_all(operand, dtype, arrays=arrays)
    return changed


def is_wide(op: str) -> bool:
    """Say whether an op runs in float32 although TensorFlow accepts bfloat16 for it.

    Args:
        op: The op's type.
    """
    return op in _WIDE


@functools.cache
def is_capable(op: str) -> bool:
    """Say whether an op has a bfloat16 kernel for every operand that may be bfloat16.

    Args:
        op: The op's type.
    """
    return all(group.has_kernel for group in _groups(op))


def dtypes_in(operand: Any) -> Iterator[DType]:
    """Yield the dtypes of the tensors and variables in an operand.

    Args:
        operand: A tensor, a variable, a list of them, or anything else.
    """
    for item in operand if isinstance(operand, (list, tuple)) else (operand,):
        if _is_tensor(item):
            yield _dtype_of(item)


def are_mixed(dtypes: Iterable[DType]) -> bool:
    """Say whether bfloat16 and float32 are mixed.

    Args:
        dtypes: TensorFlow dtypes.
    """
    import tensorflow as tf

    return {tf.bfloat16, tf.float32} <= set(dtypes)


@functools.cache
def _groups(op: str) -> tuple[_Group, ...]:
    from tensorflow.core.framework import types_pb2
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(op)
    if definition is None or op in _LEFT_ALONE:
        return ()
    if op in _PYTHON_CALLS:
        return (_Group((0,), has_kernel=False),)
    places: dict[str, list[int]] = {}
    for place, argument in enumerate(definition.input_arg):
        if argument.type_attr:
            places.setdefault(argument.type_attr, []).append(place)
        elif argument.type == types_pb2.DT_FLOAT:
            places.setdefault("", []).append(place)
    capable = set() if op in _WIDE else _bfloat16_attributes(op, definition)
    return tuple(_Group(tuple(group), attr in capable) for attr, group in places.items())


def _bfloat16_attributes(op: str, definition: Any) -> set[str]:
    from tensorflow.core.framework import types_pb2
    from tensorflow.python.framework import kernels

    registered = kernels.get_registered_kernels_for_op(op).kernel
    on_cpu = [kernel for kernel in registered if kernel.device_type in ("CPU", "DEFAULT")]
    capable = set()
    for attribute in definition.attr:
        allowed = attribute.allowed_values.list.type
        if attribute.type != "type" or (allowed and types_pb2.DT_BFLOAT16 not in allowed):
            continue
        # An op without its own kernel, such as control flow, is rewritten before it runs.
        if not on_cpu or any(_takes_bfloat16(kernel, attribute.name) for kernel in on_cpu):
            capable.add(attribute.name)
    return capable


def _takes_bfloat16(kernel: Any, attribute: str) -> bool:
    from tensorflow.core.framework import types_pb2

    constraints = [c for c in kernel.constraint if c.name == attribute]
    return all(types_pb2.DT_BFLOAT16 in c.allowed_values.list.type for c in constraints)


def _is_tensor(item: Any) -> bool:
    import sys

    import tensorflow as tf

    if isinstance(item, (tf.Tensor, tf.Variable)):
        return True
    variable = getattr(sys.modules.get("keras"), "Variable", None)
    return variable is not None and isinstance(item, variable)


def _dtype_of(item: Tensor | Variable) -> DType:
    import tensorflow as tf

    # A Keras variable names its dtype as a string, and in a layer's call its compute dtype.
    return item.dtype if isinstance(item, tf.Tensor) else tf.as_dtype(item.dtype)


def _has_arrays(operands: Iterator[Any]) -> bool:
    import numpy as np

    for operand in operands:
        for item in operand if isinstance(operand, (list, tuple)) else (operand,):
            if isinstance(item, (np.ndarray, np.floating)) and item.dtype.kind == "f":
                return True
    return False


def _as_all(operand: Any, dtype: DType, *, arrays: bool) -> Any:
    if isinstance(operand, (list, tuple)):
        return [_as(item, dtype, arrays=arrays) for item in operand]
    return _as(operand, dtype, arrays=arrays)


def _as(item: Any, dtype: DType, *, arrays: bool) -> Any:
    import numpy as np
    import tensorflow as tf

    if _is_tensor(item):
        if _dtype_of(item) == dtype or _dtype_of(item) not in (tf.bfloat16, tf.float32):
            return item
        return tf.cast(item, dtype)
    is_array = isinstance(item, (np.ndarray, np.floating)) and item.dtype.kind == "f"
    if (arrays and is_array) or isinstance(item, float):
        return tf.constant(item, dtype)
    return item


def as_tensors(op: str, operands: list[Any]) -> list[Any]:
    """Return the inputs of an op with lists, numbers and arrays as tensors.

    Args:
        op: The op's type.
        operands: Its inputs in the order of its definition, and further elements.
    """
    import tensorflow as tf
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(op)
    pairs = zip(definition.input_arg, operands, strict=False)
    return [
        operand
        if _is_tensor(operand) or argument.number_attr or argument.type_list_attr
        else tf.convert_to_tensor(operand)
        for argument, operand in pairs
    ]


@functools.cache
def input_names(op: str) -> tuple[str, ...]:
    """Return the names of an op's inputs in the order of its definition.

    Args:
        op: The op's type.
    """
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(op)
    return tuple(argument.name for argument in definition.input_arg) if definition else ()
