"""Attention scores scaled, masked and normalized in one compiled kernel per direction.

Keras casts the scores to float32 and keeps several float32 copies of them for the gradient
(keras/src/backend/tensorflow/nn.py, `_dot_product_attention_xla`). Here the scores stay in the
compute dtype. The kernel computes the softmax in float32. The backward pass recomputes it from the
scores and each row's log-sum-exp (Dao et al., "FlashAttention", 2022, section 3.1). The matrix
products still run in oneDNN.
"""

from __future__ import annotations

import functools

from nano_init.keras_patch.faster.fallback import with_faster_path
from nano_init.keras_patch.faster.pairwise_reduce import halvings, row_max, row_sum
from nano_init.keras_patch.faster.processor import has_onednn_kernels
from nano_init.keras_patch.faster.recording import may_be_differentiated
from nano_init.keras_patch.faster.xla_fusion import is_shape_worth_an_island, island, pays_in_fit
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Tensor

__all__ = ["attention_replacements"]

_NAME = "_dot_product_attention_xla"

# Keras's own (`_get_large_negative`); its exponential is 0 if the row has any other score.
_MASKED = -0.7 * 3.38953e38


def attention_replacements() -> Iterator[Replacement]:
    """Yield the replacements that normalize attention scores in islands during training."""
    from keras.src.backend.tensorflow import nn

    faster = with_faster_path("attention", vars(nn)[_NAME], _applies, _attend)
    yield Replacement(nn, _NAME, faster)


def _applies(
    query: Any, key: Any, value: Any, bias: Any, mask: Any, is_causal: bool, scale: Any
) -> bool:
    import tensorflow as tf

    del scale
    operands = (query, key, value)
    return (
        bias is None
        and isinstance(is_causal, bool)
        and all(isinstance(operand, tf.Tensor) for operand in operands)
        and len({operand.dtype for operand in operands}) == 1
        # A product would repeat a batch or a head, which `tf.einsum` refuses.
        and len({(operand.shape[0], operand.shape[2]) for operand in operands}) == 1
        and (mask is None or _is_known_mask(mask))
        and is_shape_worth_an_island(
            query, [query.shape[0], query.shape[2], query.shape[1], key.shape[1]]
        )
    )


def _is_known_mask(mask: Any) -> bool:
    import tensorflow as tf

    return (
        isinstance(mask, tf.Tensor)
        and mask.dtype == tf.bool
        and mask.shape.rank == 4
        and None not in mask.shape[1:]
    )


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Any,
    mask: Tensor | None,
    is_causal: bool,
    scale: Any,
) -> Tensor:
    del bias
    import tensorflow as tf

    # `tf.einsum` transposes the operands for each product, forward and backward. But without oneDNN
    # it adds bfloat16 more exactly than `tf.matmul` does.
    is_by_onednn = has_onednn_kernels(query.dtype.name)
    if is_by_onednn:
        query, key, value = (tf.transpose(operand, [0, 2, 1, 3]) for operand in (query, key, value))
        scores = tf.matmul(query, key, transpose_b=True)
    else:
        scores = tf.einsum("BTNH,BSNH->BNTS", query, key, optimize="optimal")
    if mask is None:
        mask = tf.ones([1, 1, 1, 1], tf.bool)
    if is_causal:
        mask = tf.logical_and(mask, _lower_triangle(*scores.shape[2:]))
    shares = _shares_of(scores, mask, tf.cast(scale, tf.float32))
    if is_by_onednn:
        return tf.transpose(tf.matmul(shares, value), [0, 2, 1, 3])
    return tf.einsum("BNTS,BSNH->BTNH", shares, value, optimize="optimal")


def _lower_triangle(queries: int, keys: int) -> Tensor:
    import tensorflow as tf

    return tf.linalg.band_part(tf.ones([1, 1, queries, keys], tf.bool), -1, 0)


def _shares_of(scores: Tensor, mask: Tensor, scale: Tensor) -> Tensor:
    import tensorflow as tf

    folds, when = halvings(scores.shape[-1]), pays_in_fit("attention", scores)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def shares_of(scores: Tensor) -> Any:
        shares, normalizers = _forward(scores, mask, scale, when=when, folds=folds)

        def gradient(upstream: Tensor) -> Tensor:
            if may_be_differentiated():
                kept = _plain_forward(scores, mask, scale, folds=folds)[1]
                return _backward.plain(scores, mask, scale, kept, upstream, folds=folds)
            tensors = (scores, mask, scale, normalizers, upstream)
            return _backward(*tensors, when=when, folds=folds)

        return shares, gradient

    return shares_of(scores)


def _plain_forward(
    scores: Tensor, mask: Tensor, scale: Tensor, *, folds: int
) -> tuple[Tensor, Tensor]:
    del folds
    import tensorflow as tf

    wide = tf.where(mask, tf.cast(scores, tf.float32) * scale, _MASKED)
    shares = tf.nn.softmax(wide)
    top, largest = (tf.reduce_max(each, -1, keepdims=True) for each in (wide, shares))
    return tf.cast(shares, scores.dtype), top - tf.math.log(largest)


@functools.partial(island, plain=_plain_forward)
def _forward(scores: Tensor, mask: Tensor, scale: Tensor, *, folds: int) -> tuple[Tensor, Tensor]:
    """Return the softmax of each row, and its log-sum-exp, of shape [..., 1]."""
    import tensorflow as tf

    wide = tf.where(mask, tf.cast(scores, tf.float32) * scale, _MASKED)
    top = row_max(wide, folds)
    powers = tf.exp(wide - top)
    total = row_sum(powers, folds)
    return tf.cast(powers / total, scores.dtype), top + tf.math.log(total)


def _plain_backward(*tensors: Tensor, folds: int) -> Tensor:
    del folds
    return _gradient(*tensors, folds=0)


@functools.partial(island, plain=_plain_backward)
def _backward(*tensors: Tensor, folds: int) -> Tensor:
    return _gradient(*tensors, folds=folds)


def _gradient(
    scores: Tensor,
    mask: Tensor,
    scale: Tensor,
    normalizers: Tensor,
    upstream: Tensor,
    *,
    folds: int,
) -> Tensor:
    import tensorflow as tf

    # A masked score has no gradient, even in a fully masked row.
    shares = tf.where(mask, tf.exp(tf.cast(scores, tf.float32) * scale - normalizers), 0.0)
    wide = tf.cast(upstream, tf.float32)
    gradient = shares * (wide - row_sum(shares * wide, folds)) * scale
    return tf.cast(tf.where(mask, gradient, 0.0), scores.dtype)
