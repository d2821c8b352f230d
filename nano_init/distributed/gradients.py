"""All-reduce the gradients of all shards before the optimizer sees them.

Keras sums the replicas' gradients inside `_backend_update_step`, after it has clipped and
accumulated those of each replica (keras/src/optimizers/base_optimizer.py). Clipping and sums of
repeated ids are correct only on the gradient of the whole batch, so that is computed first.
"""

from __future__ import annotations

import functools
import threading

from nano_init.distributed.all_reduce import all_reduce
from nano_init.distributed.batch_shard import current_shard
from nano_init.distributed.refusal import end_if_refused, has_refused
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from nano_init.distributed.batch_shard import BatchShard
    from nano_init.keras_patch.tensor_types import IndexedSlices, Optimizer, Tensor

__all__ = ["gradient_replacements", "is_summed", "sum_shards", "warn_of_own_loop"]

_HERE = threading.local()
_warned: list[bool] = []


def gradient_replacements(*, compress: bool) -> Iterator[Replacement]:
    """Yield the replacements that make every optimizer apply the whole batch's gradients.

    Args:
        compress: Whether to send dense float32 gradients between hosts as bfloat16.
    """
    from keras.src.backend.tensorflow.optimizer import TFOptimizer
    from keras.src.optimizers.base_optimizer import BaseOptimizer

    apply = vars(BaseOptimizer)["apply"]
    yield Replacement(BaseOptimizer, "apply", _wrap_apply(apply, compress=compress))
    name = "_all_reduce_sum_gradients"
    yield Replacement(TFOptimizer, name, _wrap_all_reduce_sum(vars(TFOptimizer)[name]))


def _wrap_apply(apply: Callable[..., Any], *, compress: bool) -> Callable[..., Any]:
    @functools.wraps(apply)
    def apply_sums(
        self: Optimizer,
        grads: Sequence[Tensor | IndexedSlices | None],
        trainable_variables: Any = None,
    ) -> Any:
        end_if_refused()
        shard = current_shard()
        # The optimizer inside a LossScaleOptimizer gets the same gradients as its wrapper.
        if shard is None:
            warn_of_own_loop()
        if shard is None or is_summed():
            return apply(self, grads, trainable_variables)
        summed = sum_shards(list(grads), shard, compress=compress)
        _HERE.is_summed = True
        try:
            return apply(self, summed, trainable_variables)
        finally:
            _HERE.is_summed = False

    return apply_sums


def warn_of_own_loop() -> None:
    """Warn once that a step outside of shards computes the same on every worker."""
    import sys

    from nano_init.distributed.job_strategy import is_in_replica, job_strategy
    from nano_init.distributed.worker_startup import current_membership

    membership = current_membership()
    is_own = job_strategy() is not None and not is_in_replica()
    if not is_own or membership is None or membership.index > 0 or _warned or has_refused():
        return
    _warned.append(True)
    print(
        "nano-run: warning: the script's own training step computes whole batches on every "
        "worker; to shard them, decorate it with nano_init.nano_multiprocessing",
        file=sys.stderr,
    )


def _wrap_all_reduce_sum(reduce: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(reduce)
    def reduce_unless_summed(self: Optimizer, grads_and_vars: Any) -> Any:
        return list(grads_and_vars) if is_summed() else reduce(self, grads_and_vars)

    return reduce_unless_summed


def is_summed() -> bool:
    """Say whether an optimizer is applying gradients that are already summed."""
    return getattr(_HERE, "is_summed", False)


def sum_shards(
    grads: Sequence[Tensor | IndexedSlices | None], shard: BatchShard, *, compress: bool
) -> list[Tensor | IndexedSlices | None]:
    """Return the whole batch's gradients.

    Args:
        grads: The shard's gradients of its mean loss; None where there is none.
        shard: The shard.
        compress: Whether to send dense float32 gradients between hosts as bfloat16.
    """
    import tensorflow as tf

    present = [
        g if isinstance(g, tf.IndexedSlices) else tf.convert_to_tensor(g)
        for g in grads
        if g is not None
    ]
    if not present:
        return list(grads)
    sums = iter(all_reduce(present, shard.weight, compress=compress))
    return [None if g is None else next(sums) for g in grads]
