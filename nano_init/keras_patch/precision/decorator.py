"""`nano_bf16`: run a custom training loop on bfloat16 arguments."""

from __future__ import annotations

import functools

from nano_init.errors import PrecisionError
from nano_init.keras_patch.own_frames import drop_own_frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["nano_bf16"]

_OUTPUT_DTYPES = ("float32", "bfloat16")


def nano_bf16(function: Any = None, *, output_dtype: str = "float32") -> Any:
    """Call a function or method with its floating-point arguments in bfloat16.

    The decorator goes above or below `@tf.function`, with or without parentheses, and causes no
    retracing. Arguments, positional or by keyword and however deep in dicts, lists, tuples, named
    tuples or dataclasses, are treated by type:

    - float32 and float16 tensors and NumPy arrays, also sparse and ragged ones, become bfloat16
      tensors;
    - float64 stays float64: a Keras layer casts it anyway;
    - integers (labels, ids), booleans, strings, Python and NumPy scalars, `tf.Variable`s, models
      and optimizers stay as they are.

    Inside the function, bfloat16 and float32 may be mixed where TensorFlow itself refuses that:
    matrix products and convolutions run in bfloat16, everything else in float32 with the original
    float32 values of the arguments. So `tf.square(y - model(x))` compares with the exact `y`. Code
    on raw `tf.Variable`s, such as `x @ w + b`, computes its matrix products in bfloat16. Values
    computed inside the function from float32 alone stay float32.

    Args:
        function: The function, method or `tf.function` to decorate.
        output_dtype: `"float32"` returns bfloat16 results as float32; `"bfloat16"` returns them as
            computed.

    Raises:
        PrecisionError: `output_dtype` is neither of the two.
    """
    if output_dtype not in _OUTPUT_DTYPES:
        allowed = " or ".join(repr(name) for name in _OUTPUT_DTYPES)
        raise PrecisionError(f"output_dtype {output_dtype!r} is unknown; use {allowed}")
    if function is None:
        return functools.partial(nano_bf16, output_dtype=output_dtype)
    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(nano_bf16(function.__func__, output_dtype=output_dtype))
    if _is_tf_function(function):
        return _around_tf_function(function, output_dtype)
    return _around(function, output_dtype)


def _is_tf_function(function: object) -> bool:
    return hasattr(function, "python_function") and hasattr(function, "get_concrete_function")


def _around(function: Callable[..., Any], output_dtype: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def in_bfloat16(*args: Any, **kwargs: Any) -> Any:
        from nano_init.keras_patch.precision.autocast import mixed_operands
        from nano_init.keras_patch.precision.casting import narrow, widen
        from nano_init.keras_patch.precision.nest import map_leaves

        args, kwargs = map_leaves(narrow, (args, kwargs))
        try:
            with mixed_operands():
                outputs = _converted(function)(*args, **kwargs)
                return map_leaves(widen, outputs) if output_dtype == "float32" else outputs
        except BaseException as error:
            drop_own_frames(error)
            raise

    # AutoGraph then skips the wrapper but still converts the function in it
    # (tensorflow/python/autograph/impl/api.py, is_autograph_artifact).
    in_bfloat16.autograph_info__ = None  # type: ignore[attr-defined]
    return in_bfloat16


def _converted(function: Callable[..., Any]) -> Callable[..., Any]:
    import tensorflow as tf

    context = tf.__internal__.autograph.control_status_ctx()
    if context.status.name != "ENABLED":
        return function
    converted: Callable[..., Any] = tf.__internal__.autograph.tf_convert(function, context)
    return converted


def _around_tf_function(function: Any, output_dtype: str) -> Any:
    # The casts are inside the traced function: its input signature still fits, the arguments'
    # original values stay accessible, and nothing is cast outside the graph.
    inner = _around(function.python_function, output_dtype)
    if hasattr(function, "_clone"):
        return function._clone(python_function=inner)
    return _around(function, output_dtype)
