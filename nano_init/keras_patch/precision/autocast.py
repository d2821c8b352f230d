"""Allow mixing bfloat16 and float32 in TensorFlow code that was written for float32.

TensorFlow refuses `bfloat16 - float32`, and Fourier transforms of bfloat16 tensors. Here an op that
it would refuse runs with operands of one dtype, see `operands`. An op that TensorFlow accepts is
changed only where the processor multiplies bfloat16 slowly, see `wide_products`. Widened operands
get the values that they were rounded from if these are known, see `casting`.

The replacements are active in every thread while Keras is patched for mixed_bfloat16, and inside
`mixed_operands()` in the thread that entered it.
"""

from __future__ import annotations

import functools
import threading
from contextlib import contextmanager

from nano_init.keras_patch.ledger import Ledger, Replacement
from nano_init.keras_patch.own_frames import drop_own_frames, leaves_no_frame
from nano_init.keras_patch.precision.casting import digits_for
from nano_init.keras_patch.precision.operands import (
    agree,
    are_mixed,
    as_tensors,
    dtypes_in,
    input_names,
    is_capable,
    is_wide,
)
from nano_init.keras_patch.precision.wide_products import execute_wide, is_widened, trace_wide

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import DType, Tensor

__all__ = ["autocast_replacements", "is_about_dtypes", "mixed_operands"]

_LOCK = threading.Lock()
_LEDGER = Ledger()
_HERE = threading.local()
_running = 0

# Most attributes of an op have these types; so may an operand, but then it has no dtype.
_ATTRIBUTES = (int, float, str, bytes, type(None))


@contextmanager
def mixed_operands() -> Iterator[None]:
    """Resolve mixed operands in this thread, without effect on other threads."""
    global _running
    with _LOCK:
        if _running == 0:
            _LEDGER.apply(_replacements(_is_here, is_yielding=True))
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


def autocast_replacements() -> Iterator[Replacement]:
    """Yield the replacements that resolve mixed operands everywhere."""
    return _replacements(_is_everywhere, is_yielding=False)


def _is_here() -> bool:
    return getattr(_HERE, "depth", 0) > 0


def _is_everywhere() -> bool:
    return True


def _replacements(is_on: Callable[[], bool], *, is_yielding: bool) -> Iterator[Replacement]:
    from tensorflow.python import pywrap_tfe
    from tensorflow.python.framework import op_def_library, tensor_conversion_registry
    from tensorflow.python.ops import gen_math_ops, gen_nn_ops, math_ops
    from tensorflow.python.util import dispatch

    wraps: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
        (pywrap_tfe, "TFE_Py_FastPathExecute", _wrap_execute),
        (op_def_library, "_apply_op_helper", _wrap_apply_op),
        (tensor_conversion_registry, "convert", _wrap_convert),
        (math_ops, "_truediv_python3", _wrap_truediv),
        (math_ops, "sparse_matmul", _wrap_sparse_matmul),
        (gen_math_ops, "cast", _wrap_cast),
        (gen_nn_ops, "bias_add_grad", _wrap_bias_add_grad),
        (dispatch, "dispatch", _wrap_dispatch),
    )
    for module, name, wrap in wraps:
        replaced = wrap(getattr(module, name), is_on)
        yield Replacement(module, name, replaced, is_yielding=is_yielding)


def _wrap_execute(execute: Callable[..., Any], is_on: Callable[[], bool]) -> Callable[..., Any]:
    from tensorflow.python.eager.core import _FallbackException, _NotOkStatusException

    refused = (_NotOkStatusException, _FallbackException)

    def execute_agreed(*arguments: Any) -> Any:
        context, op, name, *operands = arguments
        try:
            if not is_wide(op):
                product = execute_wide(execute, arguments) if is_widened(op) and is_on() else None
                return execute(*arguments) if product is None else product
            changed = agree(op, tuple(operands)) if is_on() else None
            if not changed:
                return execute(*arguments)
        except refused:
            changed = agree(op, tuple(operands)) if is_on() else None
            if not changed:
                raise
        except BaseException as error:
            drop_own_frames(error)
            raise
        for place, operand in changed.items():
            operands[place] = operand
        # Lists and numbers would take a slower path, with unchanged operands.
        operands[: len(input_names(op))] = as_tensors(op, operands)
        return execute(context, op, name, *operands)

    return leaves_no_frame(execute_agreed)  # TensorFlow raises the refusals itself


def _wrap_apply_op(apply: Callable[..., Any], is_on: Callable[[], bool]) -> Callable[..., Any]:
    def apply_agreed(op: str, name: Any = None, **operands: Any) -> Any:
        if not is_on():
            return apply(op, name, **operands)
        if _may_disagree(op, operands):
            operands = _agreed(op, operands) or operands
        if is_widened(op):
            product = trace_wide(apply, op, name, operands)
            if product is not None:
                return product
        try:
            return apply(op, name, **operands)
        except (TypeError, ValueError):
            # A NumPy array as the first operand determines the dtype of the tensors.
            agreed = _agreed(op, operands, arrays=True)
            if agreed is None:
                raise
        return apply(op, name, **agreed)

    return apply_agreed


def _may_disagree(op: str, operands: dict[str, Any]) -> bool:
    # Called for every traced op: most have only bfloat16 operands, and a kernel for them.
    import tensorflow as tf

    has_narrow = has_wide = False
    for operand in operands.values():
        if isinstance(operand, _ATTRIBUTES):
            continue
        dtypes = (operand.dtype,) if isinstance(operand, tf.Tensor) else dtypes_in(operand)
        for dtype in dtypes:
            if dtype is tf.bfloat16:
                has_narrow = True
            elif dtype is tf.float32:
                has_wide = True
    return has_narrow and (has_wide or not is_capable(op))


def _agreed(op: str, operands: dict[str, Any], *, arrays: bool = False) -> dict[str, Any] | None:
    names = input_names(op)
    changed = agree(op, tuple(operands.get(name) for name in names), arrays=arrays)
    if not changed:
        return None
    return {**operands, **{names[place]: operand for place, operand in changed.items()}}


def _wrap_convert(convert: Callable[..., Any], is_on: Callable[[], bool]) -> Callable[..., Any]:
    @functools.wraps(convert)
    def convert_mixed(value: Any, dtype: Any = None, *args: Any, **kwargs: Any) -> Tensor:
        try:
            return convert(value, dtype, *args, **kwargs)
        except (TypeError, ValueError, RuntimeError):
            import tensorflow as tf

            if dtype is None or not is_on() or not _may_cast(value, tf.as_dtype(dtype).base_dtype):
                raise
        if isinstance(value, (list, tuple)):
            return tf.stack([tf.cast(item, dtype) for item in value])
        return tf.cast(convert(value, None, *args, **kwargs), dtype)

    return convert_mixed


def _may_cast(value: Any, dtype: DType) -> bool:
    import tensorflow as tf

    if isinstance(value, tf.IndexedSlices):
        # Its rows are summed in float32 in any case.
        return {value.dtype, dtype} <= {tf.bfloat16, tf.float32}
    return are_mixed((dtype, *dtypes_in(value)))


def _wrap_truediv(divide: Callable[..., Any], is_on: Callable[[], bool]) -> Callable[..., Any]:
    @functools.wraps(divide)
    def divide_agreed(x: Any, y: Any, name: Any = None) -> Tensor:
        if are_mixed(dtypes_in((x, y))) and is_on():
            changed = agree("RealDiv", (x, y))
            x, y = changed.get(0, x), changed.get(1, y)
        return divide(x, y, name)

    return divide_agreed


def _wrap_sparse_matmul(
    multiply: Callable[..., Any], is_on: Callable[[], bool]
) -> Callable[..., Any]:
    """Multiply bfloat16 with float32, for which `tf.matmul` uses the slow SparseMatMul."""

    @functools.wraps(multiply)
    def multiply_in_bfloat16(
        a: Any, b: Any, *, a_is_sparse: bool = False, b_is_sparse: bool = False, **kwargs: Any
    ) -> Tensor:
        if a_is_sparse or b_is_sparse or not is_on():
            flags = {"a_is_sparse": a_is_sparse, "b_is_sparse": b_is_sparse}
            return multiply(a, b, **flags, **kwargs)
        import tensorflow as tf

        return tf.linalg.matmul(tf.cast(a, tf.bfloat16), tf.cast(b, tf.bfloat16), **kwargs)

    return multiply_in_bfloat16


def _wrap_cast(cast: Callable[..., Any], is_on: Callable[[], bool]) -> Callable[..., Any]:
    @functools.wraps(cast)
    def cast_from_origin(x: Any, DstT: DType, *args: Any, **kwargs: Any) -> Tensor:  # noqa: N803
        return cast(digits_for(x, DstT) if is_on() else x, DstT, *args, **kwargs)

    return cast_from_origin


def _wrap_bias_add_grad(
    add_up: Callable[..., Any], is_on: Callable[[], bool]
) -> Callable[..., Any]:
    """Compute the gradient of a bias by ops that add bfloat16 in float32, and are faster."""

    @functools.wraps(add_up)
    def sum_bias_gradient(out_backprop: Any, data_format: Any = "NHWC", name: Any = None) -> Tensor:
        import tensorflow as tf

        is_plain = data_format in (None, "NHWC", b"NHWC") and isinstance(out_backprop, tf.Tensor)
        if is_plain and out_backprop.dtype is tf.bfloat16 and out_backprop.shape.rank and is_on():
            return _sum_in_float32(out_backprop)
        return add_up(out_backprop, data_format, name)

    return sum_bias_gradient


def _sum_in_float32(gradient: Tensor) -> Tensor:
    """Return the sum over all axes except the last of a bfloat16 tensor.

    By medians of 15 interleaved trials on an Intel Xeon, for 16 shapes, oneDNN's product with ones
    is 0.9 to 2.0 times as fast as `Sum` with AMX and 0.95 to 2.2 times without. TensorFlow's own
    product adds in bfloat16.
    """
    import tensorflow as tf

    from nano_init.keras_patch.faster.processor import has_onednn_kernels
    from nano_init.keras_patch.faster.row_matmul import sum_rows

    if gradient.shape[-1] is not None and has_onednn_kernels("bfloat16"):
        return sum_rows(gradient)
    return tf.reduce_sum(gradient, range(gradient.shape.rank - 1))


def _wrap_dispatch(dispatch: Callable[..., Any], is_on: Callable[[], bool]) -> Callable[..., Any]:
    """Widen arguments when TensorFlow looks for a fallback for a function that refused them.

    Some functions, such as `tf.complex`, compare dtypes in Python before they create an op
    (tensorflow/python/util/dispatch.py, `add_dispatch_support`, version 2.21).
    """
    import sys

    import tensorflow as tf

    refused = tf.__internal__.dispatch.OpDispatcher.NOT_SUPPORTED

    @functools.wraps(dispatch)
    def dispatch_widened(op: Any, args: Any, kwargs: Any) -> Any:
        result = dispatch(op, args, kwargs)
        if result is not refused or not is_on():
            return result
        if not is_about_dtypes(str(sys.exc_info()[1])):
            return result
        wide = tf.nest.map_structure(_widened, (args, kwargs))
        pairs = zip(tf.nest.flatten(wide), tf.nest.flatten((args, kwargs)), strict=True)
        if all(new is old for new, old in pairs):
            return result
        return op(*wide[0], **wide[1])

    return dispatch_widened


def is_about_dtypes(message: str) -> bool:
    """Say whether an error message is about bfloat16.

    Args:
        message: The message from TensorFlow, Keras or NumPy.
    """
    lower = message.lower()
    return "bfloat16" in lower or "no opkernel was registered" in lower


def _widened(value: Any) -> Any:
    import tensorflow as tf

    is_narrow = isinstance(value, tf.Tensor) and value.dtype == tf.bfloat16
    return tf.cast(value, tf.float32) if is_narrow else value
