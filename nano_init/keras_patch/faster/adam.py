"""Adam and AdamW with one fused kernel per variable, `ResourceApplyAdam`.

Keras 3 updates a variable with about ten elementwise ops, each of which reads and writes whole
tensors (keras/src/optimizers/adam.py, `update_step`). The kernel computes the same formula in one
pass (tensorflow/core/kernels/training_ops.cc, `ApplyAdamNonCuda`). A sparse gradient also updates
every row, because the moments decay; it is converted to dense first, once instead of three times.
Clipping, weight decay, moving averages, accumulation and loss scaling happen outside `update_step`
in Keras's own code.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fallback import with_faster_path
from nano_init.keras_patch.faster.fused_optimizer import (
    is_dense_float32,
    is_sparse_float32,
    resource,
    scalar,
)
from nano_init.keras_patch.faster.step_scalars import once_a_step
from nano_init.keras_patch.ledger import Replacement
from nano_init.keras_patch.sparse.row_sums import sum_into_dense

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import IndexedSlices, Optimizer, Tensor, Variable

__all__ = ["adam_replacements"]


def adam_replacements() -> Iterator[Replacement]:
    """Yield the replacements that update dense float32 variables with the fused kernel."""
    from keras.optimizers import Adam

    faster = with_faster_path("adam", vars(Adam)["update_step"], _applies, _update)
    yield Replacement(Adam, "update_step", faster)


def _applies(
    optimizer: Optimizer, gradient: Tensor | IndexedSlices, variable: Variable, learning_rate: Any
) -> bool:
    del learning_rate
    if optimizer.amsgrad:
        return False
    return is_dense_float32(gradient, variable) or is_sparse_float32(gradient, variable)


def _update(optimizer: Optimizer, gradient: Tensor, variable: Variable, learning_rate: Any) -> None:
    import tensorflow as tf

    if isinstance(gradient, tf.IndexedSlices):
        gradient = sum_into_dense(gradient, variable.shape)
    index = optimizer._get_variable_index(variable)
    tf.raw_ops.ResourceApplyAdam(
        var=resource(variable).handle,
        m=resource(optimizer._momentums[index]).handle,
        v=resource(optimizer._velocities[index]).handle,
        grad=tf.cast(gradient, tf.float32),
        **once_a_step(optimizer, _scalars, optimizer, learning_rate),
    )


def _scalars(optimizer: Optimizer, learning_rate: Any) -> dict[str, Tensor]:
    import tensorflow as tf

    step = scalar(optimizer.iterations) + 1.0
    beta_1, beta_2 = scalar(optimizer.beta_1), scalar(optimizer.beta_2)
    return {
        "beta1_power": tf.pow(beta_1, step),
        "beta2_power": tf.pow(beta_2, step),
        "lr": scalar(learning_rate),
        "beta1": beta_1,
        "beta2": beta_2,
        "epsilon": scalar(optimizer.epsilon),
    }
