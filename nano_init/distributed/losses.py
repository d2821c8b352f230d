"""Losses of shards whose gradients sum to those of the whole batch.

Keras divides each replica's mean loss by the number of replicas. That is correct only for equal
shards, and only for Keras's own losses (keras/src/losses/loss.py,
`scale_loss_for_distribution`). Here a shard's loss stays its mean, and its gradients are weighted
by the shard's fraction of the batch before they are summed (see `gradients`). So a custom
`train_step` with its own mean is correct, too. Losses that are not means over the batch are
converted: sums, and means over unmasked or weighted elements only.
"""

from __future__ import annotations

import functools

from nano_init.distributed.all_reduce import all_reduce
from nano_init.distributed.batch_shard import current_shard
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.distributed.batch_shard import BatchShard
    from nano_init.keras_patch.tensor_types import Tensor

__all__ = ["factor_of_unmasked", "inverse_weight", "loss_replacements"]


def loss_replacements() -> Iterator[Replacement]:
    """Yield the replacements that make a shard's losses count as its fraction of the batch."""
    from keras.src.losses import loss

    for name in ("scale_loss_for_distribution", "unscale_loss_for_distribution"):
        yield Replacement(loss, name, _wrap_scale_loss(vars(loss)[name]))
    yield Replacement(loss, "apply_mask", _wrap_apply_mask(loss.apply_mask))
    yield Replacement(loss, "reduce_values", _wrap_reduce_values(loss.reduce_values))


def _wrap_scale_loss(scale: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(scale)
    def scale_outside_shards(value: Any) -> Any:
        return scale(value) if current_shard() is None else value

    return scale_outside_shards


def _wrap_apply_mask(apply_mask: Callable[..., Any]) -> Callable[..., Any]:
    """Return an `apply_mask` that divides by the unmasked elements of the whole batch."""

    @functools.wraps(apply_mask)
    def apply_mask_of_batch(sample_weight: Any, mask: Any, dtype: Any, reduction: Any) -> Any:
        weights = apply_mask(sample_weight, mask, dtype, reduction)
        shard = current_shard()
        if shard is None or mask is None or reduction not in ("mean", "sum_over_batch_size"):
            return weights
        return weights * _cast(factor_of_unmasked(mask, shard), weights)

    return apply_mask_of_batch


def factor_of_unmasked(mask: Tensor, shard: BatchShard) -> Tensor:
    """Return the factor from a mean over the shard's unmasked elements to one over all of them.

    Args:
        mask: The shard's mask.
        shard: The shard.
    """
    import tensorflow as tf

    owned = tf.cast(shard.owned > 0, tf.float64)
    total = tf.cast(tf.size(mask), tf.float64)
    valid = tf.reduce_sum(tf.cast(mask, tf.float64))
    all_total, all_valid = tf.unstack(_all_reduce(tf.stack([total, valid]) * owned))
    return tf.math.divide_no_nan(valid, total) * tf.math.divide_no_nan(all_total, all_valid)


def _wrap_reduce_values(reduce_values: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(reduce_values)
    def reduce_shard(
        values: Any, sample_weight: Any = None, reduction: str | None = "sum_over_batch_size"
    ) -> Any:
        loss = reduce_values(values, sample_weight, reduction)
        shard = current_shard()
        if shard is None or tuple(values.shape) in ((), (0,)):
            return loss
        if reduction == "sum":
            return loss * _cast(inverse_weight(shard), loss)
        if reduction == "mean_with_sample_weight" and sample_weight is not None:
            return loss * _cast(_weight_factor(sample_weight, shard), loss)
        return loss

    return reduce_shard


def _weight_factor(sample_weight: Any, shard: BatchShard) -> Tensor:
    """Return the factor from a mean over the shard's sample weights to one over all of them."""
    import tensorflow as tf

    own = tf.reduce_sum(tf.cast(sample_weight, tf.float64)) * tf.cast(shard.owned > 0, tf.float64)
    every = _all_reduce(own)
    return tf.math.divide_no_nan(own, every) * inverse_weight(shard)


def inverse_weight(shard: BatchShard) -> Tensor:
    """Return the factor from a shard's part of a sum over the batch to a value to average."""
    import tensorflow as tf

    return tf.math.divide_no_nan(tf.constant(1.0, tf.float64), shard.weight)


def _cast(value: Tensor, like: Tensor) -> Tensor:
    import tensorflow as tf

    return tf.cast(value, like.dtype)


def _all_reduce(value: Tensor) -> Tensor:
    import tensorflow as tf

    return tf.stop_gradient(all_reduce([value])[0])
