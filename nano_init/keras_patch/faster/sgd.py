"""SGD, with and without (Nesterov) momentum, with one fused kernel per variable.

The formulas are Keras's own (keras/src/optimizers/sgd.py, `update_step`):
`ResourceApplyGradientDescent` and `ResourceApplyKerasMomentum` in
tensorflow/core/kernels/training_ops.cc.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fallback import with_faster_path
from nano_init.keras_patch.faster.fused_optimizer import is_dense_float32, resource, scalar
from nano_init.keras_patch.faster.step_scalars import once_a_step
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import IndexedSlices, Optimizer, Tensor, Variable

__all__ = ["sgd_replacements"]


def sgd_replacements() -> Iterator[Replacement]:
    """Yield the replacements that update dense float32 variables with the fused kernels."""
    from keras.optimizers import SGD

    faster = with_faster_path("sgd", vars(SGD)["update_step"], _applies, _update)
    yield Replacement(SGD, "update_step", faster)


def _applies(
    optimizer: Optimizer, gradient: Tensor | IndexedSlices, variable: Variable, learning_rate: Any
) -> bool:
    del optimizer, learning_rate
    return is_dense_float32(gradient, variable)


def _update(optimizer: Optimizer, gradient: Tensor, variable: Variable, learning_rate: Any) -> None:
    import tensorflow as tf

    rate = once_a_step(optimizer, scalar, learning_rate)
    gradient = tf.cast(gradient, tf.float32)
    target = resource(variable).handle
    if optimizer.momentum == 0:
        tf.raw_ops.ResourceApplyGradientDescent(var=target, alpha=rate, delta=gradient)
        return
    accumulator = optimizer.momentums[optimizer._get_variable_index(variable)]
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=target,
        accum=resource(accumulator).handle,
        lr=rate,
        grad=gradient,
        momentum=once_a_step(optimizer, scalar, optimizer.momentum),
        use_nesterov=bool(optimizer.nesterov),
    )
