"""`BatchNormalization(synchronized=True)` over the shards of a batch.

Keras sums the moments over the replicas (keras/src/backend/tensorflow/nn.py,
`_compute_moments_sync`). Their gradients reach the other shards unweighted, which is correct only
for equal shards.
"""

from __future__ import annotations

import functools

from nano_init.distributed.batch_consistency import sum_in_step
from nano_init.distributed.batch_shard import current_shard
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from nano_init.keras_patch.tensor_types import Tensor

__all__ = ["normalization_replacements"]


def normalization_replacements() -> Iterator[Replacement]:
    """Yield the replacements that make synchronized moments those of the whole batch."""
    from keras.src.backend.tensorflow import nn

    name = "_compute_moments_sync"
    yield Replacement(nn, name, _wrap_moments(vars(nn)[name]))


def _wrap_moments(compute: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(compute)
    def compute_of_all_shards(x: Tensor, axes: Sequence[int], keepdims: bool) -> Any:
        shard = current_shard()
        if shard is None:
            return compute(x, axes, keepdims)
        import tensorflow as tf

        sums = [tf.reduce_sum(v, axes, keepdims=True) for v in (x, tf.square(x), tf.ones_like(x))]
        total, squares, count = tf.unstack(sum_in_step(tf.stack(sums), shard.weight))
        mean = total / count
        variance = tf.maximum(squares / count - tf.square(mean), 0.0)
        if keepdims:
            return mean, variance
        return tf.squeeze(mean, axes), tf.squeeze(variance, axes)

    return compute_of_all_shards
