"""Adam and AdamW of Keras 2 (`tf_keras`) with one fused kernel per variable.

Kingma, Ba, "Adam: A method for stochastic optimization", 2014, and Loshchilov, Hutter, "Decoupled
weight decay regularization", 2019, as in tf_keras 2.21 (tf_keras/src/optimizers/adam.py and
adamw.py, `update_step`). A sparse gradient also updates every row, because the moments decay; it is
converted to dense first. Keras has summed its repeated ids by then, which the squares need.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.adam_ops import (
    AdamScalars,
    adam_scalars,
    is_for_ops,
    update_by_ops,
)
from nano_init.keras_patch.faster.fused_optimizer import scalar
from nano_init.keras_patch.faster.legacy_update import (
    LegacyUpdate,
    legacy_update_replacement,
    marking_replacement,
)
from nano_init.keras_patch.faster.step_scalars import once_a_step
from nano_init.keras_patch.sparse.row_sums import is_distinct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from nano_init.keras_patch.ledger import Replacement
    from nano_init.keras_patch.tensor_types import Optimizer, Tensor, Variable

__all__ = ["legacy_adam_replacements"]


def legacy_adam_replacements() -> Iterator[Replacement]:
    """Yield the replacements of the updates, and of the sums that they need."""
    from tf_keras.src.optimizers.adam import Adam
    from tf_keras.src.optimizers.adamw import AdamW

    for owner in (Adam, AdamW):
        yield legacy_update_replacement("legacy_adam", owner, _UPDATE)
    yield marking_replacement()


def _run(
    optimizer: Optimizer, gradient: Tensor, variable: Variable, first: Variable, second: Variable
) -> None:
    import tensorflow as tf

    if is_for_ops(gradient):
        handles = [each.handle for each in (variable, first, second)]
        update_by_ops(handles, gradient, once_a_step(optimizer, _scalars, optimizer))
        return
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=first.handle,
        v=second.handle,
        grad=gradient,
        **once_a_step(optimizer, _arguments, optimizer),
    )


def _scalars(optimizer: Optimizer) -> AdamScalars:
    shares = scalar(1 - optimizer.beta_1), scalar(1 - optimizer.beta_2)
    return adam_scalars(once_a_step(optimizer, _arguments, optimizer), *shares)


def _arguments(optimizer: Optimizer) -> dict[str, Tensor]:
    import tensorflow as tf

    step = scalar(optimizer.iterations + 1)
    beta_1, beta_2 = scalar(optimizer.beta_1), scalar(optimizer.beta_2)
    beta_2_power, epsilon = tf.pow(beta_2, step), scalar(optimizer.epsilon)
    if getattr(optimizer, "adaptive_epsilon", False):
        epsilon *= tf.sqrt(1.0 - beta_2_power)
    return {
        "beta1_power": tf.pow(beta_1, step),
        "beta2_power": beta_2_power,
        "lr": scalar(optimizer.learning_rate),
        "beta1": beta_1,
        "beta2": beta_2,
        "epsilon": epsilon,
    }


_UPDATE = LegacyUpdate(
    ("_momentums", "_velocities"),
    _run,
    when=lambda optimizer: not optimizer.amsgrad,
    takes_sparse=is_distinct,
)
