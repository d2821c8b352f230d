"""Let bfloat16 and float32 meet in one TensorFlow op while a `nano_bf16` function runs.

TensorFlow refuses `bfloat16 - float32`. Within `mixed_operands()` an op that would have been
refused is tried once more with operands that agree: contractions (matrix products and
convolutions) in bfloat16, everything else in float32. An op that TensorFlow accepts is never
changed, apart from a cast of a narrowed argument to a wider dtype, which takes the argument's
original digits. PyTorch's autocast follows the same two lists in spirit.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager

from nano_init.keras_patch.casting import original_of
from nano_init.keras_patch.ledger import Ledger, Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ["mixed_operands"]

# The allow list of TensorFlow's own graph rewrite for bfloat16 on CPUs
# (tensorflow/core/grappler/optimizers/auto_mixed_precision_lists.h).
_CONTRACTIONS = frozenset(
    {
        "BatchMatMul",
        "BatchMatMulV2",
        "BatchMatMulV3",
        "BiasAdd",
        "Conv2D",
        "Conv3D",
        "DepthwiseConv2dNative",
        "Einsum",
        "MatMul",
    }
)

_LOCK = threading.Lock()
_LEDGER = Ledger()
_HERE = threading.local()
_running = 0


@contextmanager
def mixed_operands() -> Iterator[None]:
    """Resolve mixed operands in this thread; other threads notice nothing."""
    global _running
    with _LOCK:
        if _running == 0:
            _LEDGER.apply(_replacements())
        _running += 1
    _HERE.depth = getattr(_HERE, "depth", 0) + 1
    try:
        yield
    finally:
        _HERE.depth -= 1
        with _LOCK:
            _running -= 1
            if _running == 0:
                _LEDGER.restore()


def _is_here() -> bool:
    return getattr(_HERE, "depth", 0) > 0


def _replacements() -> Iterator[Replacement]:
    from tensorflow.python import pywrap_tfe
    from tensorflow.python.framework import op_def_library, tensor_conversion_registry
    from tensorflow.python.ops import math_ops

    yield _wrapped(pywrap_tfe, "TFE_Py_FastPathExecute", _agreeing_eager)
    yield _wrapped(op_def_library, "_apply_op_helper", _agreeing_graph)
    yield _wrapped(tensor_conversion_registry, "convert", _converting)
    yield _wrapped(math_ops, "sparse_matmul", _multiplying)


def _wrapped(module: Any, name: str, wrap: Callable[[Any], Any]) -> Replacement:
    return Replacement(module, name, wrap(getattr(module, name)))


def _agreeing_eager(execute: Callable[..., Any]) -> Callable[..., Any]:
    from tensorflow.python.eager.core import _NotOkStatusException

    def agreeing_execute(context: Any, op: str, name: Any, *operands: Any) -> Any:
        if not _is_here():
            return execute(context, op, name, *operands)
        if op == "Cast":
            return execute(context, op, name, _digits(*operands[:3]), *operands[1:])
        try:
            return execute(context, op, name, *operands)
        except _NotOkStatusException:
            agreed = _agree(op, operands)
            if agreed is None:
                raise
        return execute(context, op, name, *agreed)

    return agreeing_execute


def _agreeing_graph(apply: Callable[..., Any]) -> Callable[..., Any]:
    def agreeing_apply(op: str, name: Any = None, **operands: Any) -> Any:
        if not _is_here():
            return apply(op, name, **operands)
        if op == "Cast":
            digits = _digits(operands["x"], "DstT", operands["DstT"])
            return apply(op, name, **{**operands, "x": digits})
        try:
            with _converting_nothing():
                return apply(op, name, **operands)
        except (TypeError, ValueError):
            agreed = _agree(op, tuple(operands.values()))
            if agreed is None:
                raise
        return apply(op, name, **dict(zip(operands, agreed, strict=True)))

    return agreeing_apply


@contextmanager
def _converting_nothing() -> Iterator[None]:
    # Building an op converts its second operand to the first one's dtype: it must fail there.
    depth, _HERE.depth = _HERE.depth, 0
    try:
        yield
    finally:
        _HERE.depth = depth


def _converting(convert: Callable[..., Any]) -> Callable[..., Any]:
    def converting(value: Any, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        if dtype is None or not _is_here():
            return convert(value, dtype, *args, **kwargs)
        import tensorflow as tf

        if _are_mixed({tf.as_dtype(dtype).name, *_dtype_names(value)}):
            return _as(convert(value, None, *args, **kwargs), tf.as_dtype(dtype))
        return convert(value, dtype, *args, **kwargs)

    return converting


def _multiplying(sparse_matmul: Callable[..., Any]) -> Callable[..., Any]:
    # `tf.matmul` turns to the slow SparseMatMul where bfloat16 meets float32.
    def multiplying(
        a: Any, b: Any, *, a_is_sparse: bool = False, b_is_sparse: bool = False, **kwargs: Any
    ) -> Any:
        if a_is_sparse or b_is_sparse or not _is_here():
            flags = {"a_is_sparse": a_is_sparse, "b_is_sparse": b_is_sparse}
            return sparse_matmul(a, b, **flags, **kwargs)
        import tensorflow as tf

        return tf.linalg.matmul(tf.cast(a, tf.bfloat16), tf.cast(b, tf.bfloat16), **kwargs)

    return multiplying


def _digits(value: Any, _attribute: Any, dtype: Any) -> Any:
    import tensorflow as tf

    if tf.as_dtype(dtype) in (tf.bfloat16, tf.float16):
        return value
    original = original_of(value)
    return value if original is None else original


def _agree(op: str, operands: tuple[Any, ...]) -> tuple[Any, ...] | None:
    import tensorflow as tf

    if not _are_mixed({name for operand in operands for name in _dtype_names(operand)}):
        return None
    dtype = tf.bfloat16 if op in _CONTRACTIONS else tf.float32
    return tuple(_as_all(operand, dtype) for operand in operands)


def _are_mixed(names: set[str]) -> bool:
    return {"bfloat16", "float32"} <= names


def _dtype_names(operand: Any) -> Iterator[str]:
    import tensorflow as tf

    for item in operand if isinstance(operand, (list, tuple)) else (operand,):
        if isinstance(item, (tf.Tensor, tf.Variable)):
            yield item.dtype.name


def _as_all(operand: Any, dtype: Any) -> Any:
    if isinstance(operand, (list, tuple)):
        return type(operand)(_as(item, dtype) for item in operand)
    return _as(operand, dtype)


def _as(operand: Any, dtype: Any) -> Any:
    import tensorflow as tf

    if not isinstance(operand, (tf.Tensor, tf.Variable)) or operand.dtype == dtype:
        return operand
    if operand.dtype not in (tf.bfloat16, tf.float32):
        return operand
    return tf.cast(operand, dtype)
