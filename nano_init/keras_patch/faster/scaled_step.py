"""The last pass of an optimizer whose step has a size that follows from norms.

Lamb and Adafactor compute a direction for each element, and scale it by norms of the weight and of
the direction. XLA sums in one thread; TensorFlow's `l2_loss` sums squares in all threads and writes
no array, and `ResourceApplyGradientDescent` scales and subtracts in one pass, in place.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fused_optimizer import resource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nano_init.keras_patch.tensor_types import Tensor, Variable

__all__ = ["norm", "subtract_scaled"]


def norm(tensor: Tensor) -> Tensor:
    """Return the root of the sum of a tensor's squares, a scalar."""
    import tensorflow as tf

    return tf.sqrt(2.0 * tf.nn.l2_loss(tensor))


def subtract_scaled(variable: Variable, scale: Tensor, direction: Tensor) -> None:
    """Subtract a multiple of a direction from a variable.

    Args:
        variable: A float32 variable of Keras or of TensorFlow.
        scale: A float32 scalar.
        direction: A float32 tensor of as many elements, of any rank.
    """
    import tensorflow as tf

    delta = tf.reshape(direction, variable.shape)
    handle = resource(variable).handle
    tf.raw_ops.ResourceApplyGradientDescent(var=handle, alpha=scale, delta=delta)
