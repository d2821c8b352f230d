"""Whether the ops of a gradient are recorded, and ops recorded with a gradient of their own.

Recorded ops may be differentiated in turn: a penalty on gradients, a Hessian or a Jacobian
differentiates a gradient. There a path takes the ops of its formula: TensorFlow rewrites the
functions of an `If` to differentiate it, and gives the new ones the same names for each `If` that
shares the functions, which fails when they differ (tensorflow/python/ops/cond_v2.py, `_IfGrad`).
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from nano_init.keras_patch.tensor_types import Tensor

__all__ = ["is_recorded", "may_be_differentiated", "record_with_gradient"]

_SYMBOLIC_GRADIENTS = "tensorflow.python.ops.gradients_impl"


def is_recorded() -> bool:
    """Say whether a tape or a forward accumulator records the ops that are created now."""
    from tensorflow.python.eager.record import could_possibly_record

    return bool(could_possibly_record())


def may_be_differentiated() -> bool:
    """Say whether the ops of a gradient that are created now may be differentiated in turn.

    That is so if they are recorded, and for `tf.gradients`: it differentiates a graph as it is, and
    may do so again, for a penalty or by `tf.hessians`.
    """
    return is_recorded() or _is_symbolic()


def _is_symbolic() -> bool:
    """Say whether `tf.gradients` creates the ops, rather than a tape or a control flow op."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_globals.get("__name__") == _SYMBOLIC_GRADIENTS:
            return True
    return False


def record_with_gradient(
    run: Callable[..., Any],
    inputs: Sequence[Tensor],
    gradient: Callable[[Tensor], Any],
) -> Any:
    """Run ops that tapes and accumulators record as one, with a gradient for its first result.

    `tf.custom_gradient` does the same by an op of its own between the result and its users. That
    op keeps TensorFlow from fusing BatchNormalization with the ReLU after it
    (tensorflow/core/grappler/optimizers/remapper.cc, `FindFusedBatchNormEx`). In a graph without a
    tape it is needed: whoever differentiates that later finds nothing but the ops.

    Args:
        run: Takes the inputs, creates the ops, and returns tensors. All but the first are constants
            for whoever differentiates.
        inputs: The tensors to differentiate by.
        gradient: Takes the gradient by the first result, and returns those by the inputs.
    """
    import tensorflow as tf
    from tensorflow.python.eager import record

    if not is_recorded() and not tf.executing_eagerly():
        return _run_with_gradient(run, inputs, gradient)
    with record.stop_recording():
        results = run(*inputs)
    record.record_operation("NanoInitRecorded", results[:1], list(inputs), gradient)
    return results


def _run_with_gradient(
    run: Callable[..., Any],
    inputs: Sequence[Tensor],
    gradient: Callable[[Tensor], Any],
) -> Any:
    import tensorflow as tf

    rest: list[Tensor] = []

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def run_first(*inputs: Tensor) -> Any:
        first, *others = run(*inputs)
        rest.extend(map(tf.stop_gradient, others))
        return first, gradient

    return run_first(*inputs), *rest
