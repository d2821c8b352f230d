"""FTRL with one island per variable.

McMahan et al., "Ad click prediction: A view from the trenches", 2013, as in Keras 3.15
(keras/src/optimizers/ftrl.py, `update_step`), with the power of the learning rate that the paper
has. TensorFlow's fused `ResourceApplyFtrlV2` gives the same numbers, but makes a weight 0 where its
gradient is NaN, so a training that has diverged would go on.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fused_optimizer import scalar
from nano_init.keras_patch.faster.optimizer_update import update_replacements
from nano_init.keras_patch.faster.update_island import update_island

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nano_init.keras_patch.tensor_types import Optimizer, Tensor

__all__ = ["ftrl_replacements"]


def _scalars(optimizer: Optimizer, learning_rate: Any) -> tuple[Tensor, ...]:
    rate = scalar(learning_rate)
    strength = scalar(optimizer.l2_regularization_strength)
    return (
        rate,
        scalar(optimizer.l1_regularization_strength),
        2.0 * (strength + scalar(optimizer.beta) / (2.0 * rate)),
        scalar(2 * optimizer.l2_shrinkage_regularization_strength),
    )


def _formula(
    weight: Tensor, accumulator: Tensor, linear: Tensor, gradient: Tensor, *scalars: Tensor
) -> tuple[Tensor, ...]:
    import tensorflow as tf

    rate, l1, l2, shrinkage = scalars
    before, accumulator = tf.sqrt(accumulator), accumulator + tf.square(gradient)
    after = tf.sqrt(accumulator)
    linear = linear + (gradient + shrinkage * weight - (after - before) / rate * weight)
    clipped = tf.clip_by_value(linear, -l1, l1)
    return (clipped - linear) / (after / rate + l2), accumulator, linear


_UPDATE = update_island(
    _formula,
    ("_accumulators", "_linears"),
    _scalars,
    when=lambda optimizer: optimizer.learning_rate_power == -0.5,
)

ftrl_replacements = update_replacements("ftrl", "Ftrl", _UPDATE)
