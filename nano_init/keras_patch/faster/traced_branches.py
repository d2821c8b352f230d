"""Functions that are traced once per process, and a choice between two of them as one op.

Tracing a function takes longer than an op that calls it: a layer that appears fifty times in a
model is traced once. Sizes are left open, so that one graph serves all of them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from nano_init.keras_patch.tensor_types import Tensor

__all__ = ["run_either", "traced_apart"]


def run_either(
    when: Tensor, first: Any, second: Any, tensors: Sequence[Tensor], *, is_inlined: bool = False
) -> Any:
    """Run one of two traced functions with the same types of results.

    Args:
        when: A boolean tensor: whether the first one runs.
        first: A function from `traced_apart`.
        second: Another one, which returns the same dtypes and ranks.
        tensors: The arguments of both.
        is_inlined: Whether both become part of the calling graph when it is prepared to run
            (tensorflow/core/common_runtime/lower_if_op.cc), as in `tf.cond`. Only there does
            TensorFlow replace its kernels by those of oneDNN. Otherwise the call stays one op,
            whatever the functions contain: TensorFlow does not optimize them with each graph, and
            prepares their ops once for all calls.
    """
    import tensorflow as tf
    from tensorflow.core.framework import attr_value_pb2

    results = tf.nest.flatten(second.structured_outputs)
    run = tf.raw_ops.If if _is_stateful(first, second) else tf.raw_ops.StatelessIf
    outputs = run(
        cond=when,
        input=tensors,
        Tout=[result.dtype for result in results],
        then_branch=first,
        else_branch=second,
        output_shapes=[result.shape for result in results],
    )
    if is_inlined:
        inlined = attr_value_pb2.AttrValue(b=True)
        outputs[0].op._set_attr("_lower_using_switch_merge", inlined)
    return tf.nest.pack_sequence_as(second.structured_outputs, outputs)


def _is_stateful(*functions: Any) -> bool:
    operations = (op for each in functions for op in each.graph.get_operations())
    return any(operation.op_def.is_stateful for operation in operations)


def traced_apart(function: Any, *specs: Any) -> Any:
    """Trace a function outside of the calling graph, so that other graphs can call it too.

    Args:
        function: A `tf.function`.
        specs: A `tf.TensorSpec` for each argument, or the dtype of a scalar.
    """
    import tensorflow as tf

    scalars = (tf.TensorSpec([], s) if isinstance(s, tf.DType) else s for s in specs)
    with tf.init_scope(), tf.device(None):
        return function.get_concrete_function(*scalars)
