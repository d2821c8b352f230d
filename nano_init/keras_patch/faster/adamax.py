"""Adamax with one fused kernel per variable, `ResourceApplyAdaMax`.

The formula is Keras's own (keras/src/optimizers/adamax.py, `update_step`, and
tensorflow/core/kernels/training_ops.cc, `ApplyAdaMax`).
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

__all__ = ["adamax_replacements"]


def adamax_replacements() -> Iterator[Replacement]:
    """Yield the replacements that update dense float32 variables with the fused kernel."""
    from keras.optimizers import Adamax

    faster = with_faster_path("adamax", vars(Adamax)["update_step"], _applies, _update)
    yield Replacement(Adamax, "update_step", faster)


def _applies(
    optimizer: Optimizer, gradient: Tensor | IndexedSlices, variable: Variable, learning_rate: Any
) -> bool:
    del optimizer, learning_rate
    return is_dense_float32(gradient, variable)


def _update(optimizer: Optimizer, gradient: Tensor, variable: Variable, learning_rate: Any) -> None:
    import tensorflow as tf

    index = optimizer._get_variable_index(variable)
    tf.raw_ops.ResourceApplyAdaMax(
        var=resource(variable).handle,
        m=resource(optimizer._m[index]).handle,
        v=resource(optimizer._u[index]).handle,
        grad=tf.cast(gradient, tf.float32),
        **once_a_step(optimizer, _scalars, optimizer, learning_rate),
    )


def _scalars(optimizer: Optimizer, learning_rate: Any) -> dict[str, Tensor]:
    import tensorflow as tf

    beta_1 = scalar(optimizer.beta_1)
    return {
        "beta1_power": tf.pow(beta_1, scalar(optimizer.iterations) + 1.0),
        "lr": scalar(learning_rate),
        "beta1": beta_1,
        "beta2": scalar(optimizer.beta_2),
        "epsilon": scalar(optimizer.epsilon),
    }
