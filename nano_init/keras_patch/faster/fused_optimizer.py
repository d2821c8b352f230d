"""An optimizer's update by one of TensorFlow's fused kernels: its conditions, and its call.

Keras 3 updates a variable with about ten elementwise ops, each of which reads and writes whole
tensors. A kernel computes the same formula in one pass (tensorflow/core/kernels/training_ops.cc).
"""

from __future__ import annotations

from nano_init.keras_patch.faster.optimizer_update import Update
from nano_init.keras_patch.faster.step_scalars import once_a_step
from nano_init.keras_patch.sparse.row_sums import sum_into_dense

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any

    from nano_init.keras_patch.tensor_types import Gradient, Optimizer, Tensor, Variable

__all__ = ["fused_kernel", "is_dense_float32", "resource", "scalar", "slot_variables"]


def fused_kernel(
    op: str,
    slots: Mapping[str, str],
    arguments: Callable[[Optimizer, Any], dict[str, Any]],
    *,
    gradient: str = "grad",
    takes_sparse: bool = False,
    when: Callable[[Optimizer], bool] = lambda _: True,
) -> Update:
    """Return an update by a fused kernel.

    Args:
        op: The kernel's op in `tf.raw_ops`. It takes the variable as `var`.
        slots: The optimizer's attributes with the slot variables, by the op's arguments.
        arguments: Takes the optimizer and the learning rate, and returns the op's other arguments,
            which are the same for all variables of a step.
        gradient: The op's argument for the gradient.
        takes_sparse: Whether the update converts a sparse gradient to dense, once.
        when: As for `Update`.
    """

    def takes(given: Gradient, variable: Variable) -> bool:
        is_sparse = takes_sparse and _is_sparse_float32(given, variable)
        return is_sparse or is_dense_float32(given, variable)

    def run(optimizer: Optimizer, given: Gradient, variable: Variable, learning_rate: Any) -> None:
        import tensorflow as tf

        if isinstance(given, tf.IndexedSlices):
            given = sum_into_dense(given, variable.shape)
        kept = slot_variables(optimizer, variable, slots.values())
        getattr(tf.raw_ops, op)(
            var=resource(variable).handle,
            **{name: resource(each).handle for name, each in zip(slots, kept, strict=True)},
            **{gradient: tf.cast(given, tf.float32)},
            **once_a_step(optimizer, arguments, optimizer, learning_rate),
        )

    return Update(when, takes, run)


def slot_variables(
    optimizer: Optimizer, variable: Variable, attributes: Collection[str]
) -> list[Variable]:
    """Return an optimizer's slot variables of a variable.

    Args:
        optimizer: A built optimizer of Keras.
        variable: One of the variables that it updates.
        attributes: The attributes with the lists of slot variables.
    """
    # SGD without momentum has no slots, and may update variables that it was not built for.
    index = optimizer._get_variable_index(variable) if attributes else None
    return [getattr(optimizer, attribute)[index] for attribute in attributes]


def is_dense_float32(gradient: Gradient, variable: Variable) -> bool:
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


def _is_sparse_float32(gradient: Gradient, variable: Variable) -> bool:
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


def _is_float(gradient: Gradient) -> bool:
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
