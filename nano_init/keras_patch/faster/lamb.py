"""Lamb with one island per variable, and the norms of its step by TensorFlow's ops.

You et al., "Large batch optimization for deep learning: Training BERT in 76 minutes", 2019, as in
Keras 3.15 (keras/src/optimizers/lamb.py, `update_step`).
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fused_optimizer import resource, scalar, slot_variables
from nano_init.keras_patch.faster.optimizer_update import Update, update_replacements
from nano_init.keras_patch.faster.scaled_step import norm, subtract_scaled
from nano_init.keras_patch.faster.step_scalars import once_a_step
from nano_init.keras_patch.faster.update_island import is_worth_an_island
from nano_init.keras_patch.faster.xla_fusion import flattened, island, pays_in_fit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nano_init.keras_patch.tensor_types import Optimizer, Tensor, Variable

__all__ = ["lamb_replacements"]

_SLOTS = ("_momentums", "_velocities")


def _scalars(optimizer: Optimizer, learning_rate: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
    import tensorflow as tf

    step = scalar(optimizer.iterations) + 1.0
    betas = scalar(optimizer.beta_1), scalar(optimizer.beta_2)
    shares = scalar(1 - optimizer.beta_1), scalar(1 - optimizer.beta_2)
    corrections = tuple(1.0 - tf.pow(beta, step) for beta in betas)
    return scalar(learning_rate), (*shares, *corrections, scalar(optimizer.epsilon))


@island
def _direction(
    momentum: Tensor, velocity: Tensor, gradient: Tensor, *scalars: Tensor
) -> tuple[Tensor, ...]:
    """Return the new slots and the direction of the step."""
    import tensorflow as tf

    share_1, share_2, correction_1, correction_2, epsilon = scalars
    momentum = momentum + (gradient - momentum) * share_1
    velocity = velocity + (tf.square(gradient) - velocity) * share_2
    root = tf.sqrt(velocity / correction_2) + epsilon
    return momentum, velocity, (momentum / correction_1) / root


def _run(optimizer: Optimizer, gradient: Tensor, variable: Variable, learning_rate: Any) -> None:
    import tensorflow as tf

    rate, scalars = once_a_step(optimizer, _scalars, optimizer, learning_rate)
    slots = [resource(each) for each in slot_variables(optimizer, variable, _SLOTS)]
    weight = tf.convert_to_tensor(resource(variable))
    before = (tf.convert_to_tensor(slot) for slot in slots)
    values = map(flattened, (*before, tf.cast(gradient, tf.float32)))
    *after, direction = _direction(*values, *scalars, when=pays_in_fit(__name__, weight))
    for slot, value in zip(slots, after, strict=True):
        slot.assign(tf.reshape(value, slot.shape))
    subtract_scaled(variable, rate * _trust(norm(weight), norm(direction)), direction)


def _trust(of_weight: Tensor, of_direction: Tensor) -> Tensor:
    """Return the ratio of two norms, or 1 where either is 0."""
    import tensorflow as tf

    is_known = tf.logical_and(of_weight > 0.0, of_direction > 0.0)
    return tf.where(is_known, of_weight / of_direction, 1.0)


_UPDATE = Update(lambda _: True, is_worth_an_island, _run)

lamb_replacements = update_replacements("lamb", "Lamb", _UPDATE)
