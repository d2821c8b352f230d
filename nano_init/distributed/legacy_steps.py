"""A program's own steps with Keras 2 (`tf_keras`), or with optimizers of TensorFlow 1.

Under `nano_multiprocessing` they run on shards, as with Keras 3: losses are means over the shard
(see `losses`), and gradients are weighted and summed before an optimizer sees them (see
`gradients`).
"""

from __future__ import annotations

import functools

from nano_init.distributed.batch_shard import current_shard
from nano_init.distributed.gradients import sum_shards, warn_of_own_loop
from nano_init.distributed.job_strategy import under_job
from nano_init.distributed.losses import factor_of_unmasked, inverse_weight
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.distributed.batch_shard import BatchShard
    from nano_init.keras_patch.tensor_types import IndexedSlices, Optimizer, Tensor

__all__ = ["first_optimizer_replacements", "legacy_step_replacements"]


def legacy_step_replacements(*, compress: bool) -> Iterator[Replacement]:
    """Yield the replacements that put Keras 2's models in the job and shard its steps.

    Args:
        compress: Whether to send dense float32 gradients between hosts as bfloat16.
    """
    from tf_keras.src import losses
    from tf_keras.src.engine.training import Model
    from tf_keras.src.optimizers import optimizer, utils
    from tf_keras.src.optimizers.legacy import optimizer_v2
    from tf_keras.src.utils import losses_utils

    optimizers = (optimizer.Optimizer, optimizer_v2.OptimizerV2)
    for owner in (Model, *optimizers):
        yield Replacement(owner, "__init__", under_job(vars(owner)["__init__"]))
    for owner in optimizers:
        name = "apply_gradients"
        yield Replacement(owner, name, _wrap_eager_apply_gradients(vars(owner)[name]))
    name = "all_reduce_sum_gradients"
    yield Replacement(utils, name, _wrap_all_reduce_sum(vars(utils)[name], compress=compress))
    name = "_get_reduction"
    yield Replacement(losses.Loss, name, _wrap_get_reduction(vars(losses.Loss)[name]))
    name = "apply_valid_mask"
    yield Replacement(losses_utils, name, _wrap_apply_valid_mask(vars(losses_utils)[name]))
    name = "reduce_weighted_loss"
    yield Replacement(losses_utils, name, _wrap_reduce_weighted_loss(vars(losses_utils)[name]))


def first_optimizer_replacements(*, compress: bool) -> Iterator[Replacement]:
    """Yield the replacements that make TensorFlow 1 optimizers apply the whole batch's gradients.

    Args:
        compress: Whether to send dense float32 gradients between hosts as bfloat16.
    """
    from tensorflow.python.training.optimizer import Optimizer

    name = "apply_gradients"
    yield Replacement(
        Optimizer, name, _wrap_apply_gradients(vars(Optimizer)[name], compress=compress)
    )


def _wrap_eager_apply_gradients(apply: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(apply)
    def warn_and_apply(*args: Any, **kwargs: Any) -> Any:
        if current_shard() is None:
            warn_of_own_loop()
        return apply(*args, **kwargs)

    return warn_and_apply


def _wrap_all_reduce_sum(reduce: Callable[[Any], Any], *, compress: bool) -> Callable[[Any], Any]:
    @functools.wraps(reduce)
    def sum_of_shards(grads_and_vars: Any) -> Any:
        shard = current_shard()
        if shard is None:
            return reduce(grads_and_vars)
        return _summed(grads_and_vars, shard, compress=compress)

    return sum_of_shards


def _wrap_apply_gradients(apply: Callable[..., Any], *, compress: bool) -> Callable[..., Any]:
    @functools.wraps(apply)
    def apply_sums(self: Optimizer, grads_and_vars: Any, *args: Any, **kwargs: Any) -> Any:
        shard = current_shard()
        if shard is None:
            warn_of_own_loop()
            return apply(self, grads_and_vars, *args, **kwargs)
        summed = _summed(grads_and_vars, shard, compress=compress)
        return apply(self, summed, *args, **{**kwargs, "skip_gradients_aggregation": True})

    return apply_sums


def _summed(
    grads_and_vars: Any, shard: BatchShard, *, compress: bool
) -> list[tuple[Tensor | IndexedSlices | None, Any]]:
    pairs = list(grads_and_vars)
    sums = sum_shards([gradient for gradient, _ in pairs], shard, compress=compress)
    return [(total, variable) for total, (_, variable) in zip(sums, pairs, strict=True)]


def _wrap_get_reduction(get_reduction: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a `_get_reduction` that allows means, which are correct on a shard."""

    @functools.wraps(get_reduction)
    def get_reduction_on_shard(self: Any) -> Any:
        if current_shard() is None:
            return get_reduction(self)
        return "sum_over_batch_size" if self.reduction == "auto" else self.reduction

    return get_reduction_on_shard


def _wrap_apply_valid_mask(apply_mask: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(apply_mask)
    def apply_mask_of_batch(losses: Any, sample_weight: Any, mask: Any, reduction: Any) -> Any:
        weights = apply_mask(losses, sample_weight, mask, reduction)
        shard = current_shard()
        if shard is None or mask is None or reduction not in ("auto", "sum_over_batch_size"):
            return weights
        import tensorflow as tf

        return weights * tf.cast(factor_of_unmasked(mask, shard), weights.dtype)

    return apply_mask_of_batch


def _wrap_reduce_weighted_loss(reduce_loss: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(reduce_loss)
    def reduce_shard(weighted_losses: Any, reduction: Any = "sum_over_batch_size") -> Any:
        loss = reduce_loss(weighted_losses, reduction)
        shard = current_shard()
        if shard is None or reduction != "sum":
            return loss
        import tensorflow as tf

        return loss * tf.cast(inverse_weight(shard), loss.dtype)

    return reduce_shard
