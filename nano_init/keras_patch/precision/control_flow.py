"""Let loops, branches, arrays and signatures accept values of either dtype.

A `TensorArray` has a fixed dtype, a `tf.while_loop` variable the dtype of its first value, a
`tf.function` that of its signature. bfloat16 and float32 values are cast to it. Branches of a
`tf.cond` that differ return float32. TensorFlow itself refuses all of these, or logs an error and
computes garbage (tensorflow/python/ops/tensor_array_ops.py, `_check_dtypes`).
"""

from __future__ import annotations

import functools

from nano_init.keras_patch.ledger import Replacement
from nano_init.keras_patch.precision.operands import are_mixed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import DType, Graph

__all__ = ["control_flow_replacements"]


def control_flow_replacements() -> Iterator[Replacement]:
    """Yield the replacements that cast where control flow, arrays and signatures fix a dtype."""
    from tensorflow.python.framework import tensor as tensor_lib
    from tensorflow.python.ops import cond_v2, tensor_array_ops, while_v2

    owner = tensor_array_ops.TensorArray
    for name, place in (("write", 1), ("unstack", 0), ("scatter", 1), ("split", 0)):
        yield Replacement(owner, name, _wrap_tensor_array_write(vars(owner)[name], place))
    yield Replacement(while_v2, "while_loop", _wrap_while_loop(while_v2.while_loop))
    check = "_check_same_outputs"
    yield Replacement(cond_v2, check, _wrap_check_same_outputs(getattr(cond_v2, check)))
    spec = tensor_lib.TensorSpec
    yield Replacement(spec, "cast", _wrap_spec_cast(vars(spec)["cast"]))


def _wrap_tensor_array_write(store: Callable[..., Any], place: int) -> Callable[..., Any]:
    @functools.wraps(store)
    def write_cast(self: Any, *args: Any, **kwargs: Any) -> Any:
        if "value" in kwargs:
            kwargs["value"] = _cast_like(kwargs["value"], self.dtype)
        elif len(args) > place:
            args = (*args[:place], _cast_like(args[place], self.dtype), *args[place + 1 :])
        return store(self, *args, **kwargs)

    return write_cast


def _cast_like(value: Any, dtype: DType) -> Any:
    import tensorflow as tf

    if isinstance(value, tf.Tensor) and are_mixed((value.dtype, dtype)):
        return tf.cast(value, dtype)
    return value


def _wrap_while_loop(loop: Callable[..., Any]) -> Callable[..., Any]:
    import tensorflow as tf

    @functools.wraps(loop)
    def loop_with_dtypes(cond: Any, body: Any, loop_vars: Any, *args: Any, **kwargs: Any) -> Any:
        dtypes = [getattr(x, "dtype", None) for x in tf.nest.flatten(loop_vars)]
        return loop(cond, _with_dtypes(body, dtypes), loop_vars, *args, **kwargs)

    return loop_with_dtypes


def _with_dtypes(body: Callable[..., Any], dtypes: list[Any]) -> Callable[..., Any]:
    import tensorflow as tf

    @functools.wraps(body)
    def body_with_dtypes(*args: Any) -> Any:
        outputs = body(*args)
        flat = tf.nest.flatten(outputs)
        if len(flat) != len(dtypes):
            return outputs
        cast = [_cast_like(x, dtype) for x, dtype in zip(flat, dtypes, strict=True)]
        if all(new is old for new, old in zip(cast, flat, strict=True)):
            return outputs
        return tf.nest.pack_sequence_as(outputs, cast)

    return body_with_dtypes


def _wrap_check_same_outputs(check: Callable[..., Any]) -> Callable[..., Any]:
    import tensorflow as tf

    @functools.wraps(check)
    def widen_and_check(op_type: Any, graphs: Any) -> Any:
        if len({len(graph.outputs) for graph in graphs}) == 1:
            for place, outputs in enumerate(zip(*(g.outputs for g in graphs), strict=True)):
                if are_mixed(output.dtype for output in outputs):
                    for graph in graphs:
                        _widen_output(graph, place)
        return check(op_type, graphs)

    def _widen_output(graph: Graph, place: int) -> None:
        output = graph.outputs[place]
        if output.dtype != tf.bfloat16:
            return
        with graph.as_default():
            wide = tf.cast(output, tf.float32)
        graph.outputs[place] = wide
        graph.structured_outputs = tf.nest.map_structure(
            lambda x: wide if x is output else x, graph.structured_outputs, expand_composites=True
        )

    return widen_and_check


def _wrap_spec_cast(cast: Callable[..., Any]) -> Callable[..., Any]:
    import tensorflow as tf

    @functools.wraps(cast)
    def cast_to_spec(self: Any, value: Any, casting_context: Any) -> Any:
        is_tensor = isinstance(value, (tf.Tensor, tf.Variable))
        if is_tensor and are_mixed((value.dtype, self.dtype)):
            value = tf.cast(value, self.dtype)
        return cast(self, value, casting_context)

    return cast_to_spec
