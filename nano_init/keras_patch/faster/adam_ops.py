"""Adam's update by elementwise ops, for weights that TensorFlow's kernel splits among threads.

`ResourceApplyAdam` shares out a gradient of more than some 400 elements among threads
(tensorflow/core/kernels/training_ops.cc, `ApplyAdamNonCuda`). For several thousand elements that
takes longer than Keras's own formula with scalars that are computed once per step.
"""

from __future__ import annotations

from nano_init.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nano_init.keras_patch.tensor_types import Gradient, Tensor

__all__ = ["AdamScalars", "adam_scalars", "is_for_ops", "update_by_ops"]

# In a graph, six weights of 448 elements take 32 microseconds instead of 100, of 8,192 elements 74
# instead of 103; of 384 elements 30 instead of 13, of 16,384 elements 125 instead of 111.
_SPLIT_BY_KERNEL = range(400, 8193)


@frozen
class AdamScalars:
    """The scalars of a step, float32.

    Args:
        rate: The learning rate, corrected for both moments' bias.
        share_1: The share of the gradient in the first moment.
        share_2: The share of its square in the second moment.
        epsilon: What is added to the root of the second moment.
    """

    rate: Tensor
    share_1: Tensor
    share_2: Tensor
    epsilon: Tensor


def adam_scalars(arguments: dict[str, Tensor], share_1: Tensor, share_2: Tensor) -> AdamScalars:
    """Return the scalars of a step.

    Args:
        arguments: Those of `ResourceApplyAdam`.
        share_1: One minus the first beta, subtracted before it is rounded to float32, as by Keras.
        share_2: One minus the second beta.
    """
    import tensorflow as tf

    rate = arguments["lr"] * tf.sqrt(1.0 - arguments["beta2_power"])
    return AdamScalars(
        rate / (1.0 - arguments["beta1_power"]), share_1, share_2, arguments["epsilon"]
    )


def is_for_ops(gradient: Gradient) -> bool:
    """Say whether the kernel takes longer than ops: in a graph, for a few thousand elements."""
    import tensorflow as tf

    return (
        isinstance(gradient, tf.Tensor)
        and not tf.executing_eagerly()
        and gradient.shape.num_elements() in _SPLIT_BY_KERNEL
    )


def update_by_ops(handles: Sequence[Tensor], gradient: Tensor, scalars: AdamScalars) -> None:
    """Update a weight and its moments as Keras does (keras/src/optimizers/adam.py, `update_step`).

    Args:
        handles: The handles of the weight, the first moment and the second moment, all float32.
        gradient: The gradient, float32.
        scalars: The scalars of the step.
    """
    import tensorflow as tf

    ops = tf.raw_ops
    weight, *moments = handles
    m, v = (ops.ReadVariableOp(resource=moment, dtype=tf.float32) for moment in moments)
    m += (gradient - m) * scalars.share_1
    v += (tf.square(gradient) - v) * scalars.share_2
    for moment, value in zip(moments, (m, v), strict=True):
        ops.AssignVariableOp(resource=moment, value=value)
    change = (m * scalars.rate) / (tf.sqrt(v) + scalars.epsilon)
    ops.AssignSubVariableOp(resource=weight, value=change)
