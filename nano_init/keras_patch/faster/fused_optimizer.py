"""Conditions for TensorFlow's fused optimizer kernels, and their common code."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nano_init.keras_patch.tensor_types import IndexedSlices, Tensor, Variable

__all__ = ["is_dense_float32", "is_sparse_float32", "resource", "scalar"]


def is_dense_float32(gradient: Tensor | IndexedSlices, variable: Variable) -> bool:
    """Say whether a fused kernel can update a variable with a gradient.

    Args:
        gradient: A floating tensor of the variable's shape, known while tracing; Keras handles
            sparse gradients and those that need broadcasting.
        variable: A float32 variable of Keras or of TensorFlow, on one device.
    """
    import tensorflow as tf

    return (
        isinstance(gradient, tf.Tensor)
        and _is_float(gradient)
        and _is_float32_variable(variable)
        and gradient.shape.is_fully_defined()
        and gradient.shape == variable.shape
    )


def is_sparse_float32(gradient: Tensor | IndexedSlices, variable: Variable) -> bool:
    """Say whether a sparse gradient can be converted to dense for a fused kernel.

    Args:
        gradient: A floating `tf.IndexedSlices` of the variable's rows; others do not qualify.
        variable: A float32 variable of Keras or of TensorFlow, on one device.
    """
    import tensorflow as tf

    return (
        isinstance(gradient, tf.IndexedSlices)
        and _is_float(gradient)
        and _is_float32_variable(variable)
        and gradient.values.shape[1:].is_fully_defined()
        and gradient.values.shape[1:] == tf.TensorShape(variable.shape)[1:]
    )


def _is_float(gradient: Tensor | IndexedSlices) -> bool:
    import tensorflow as tf

    return gradient.dtype in (tf.float32, tf.bfloat16, tf.float16)


def _is_float32_variable(variable: Variable) -> bool:
    import tensorflow as tf

    variable = resource(variable)
    return (
        isinstance(variable, tf.Variable)
        and variable.dtype == tf.float32
        and isinstance(getattr(variable, "handle", None), tf.Tensor)
    )


def resource(variable: Any) -> Any:
    """Return the TensorFlow variable of a Keras variable; return TensorFlow variables unchanged."""
    from keras import Variable

    return variable.value if isinstance(variable, Variable) else variable


def scalar(value: Any) -> Tensor:
    """Return a hyperparameter (number, variable or tensor) as a float32 scalar."""
    import tensorflow as tf

    return tf.cast(tf.convert_to_tensor(value), tf.float32)
