"""Sparse categorical cross-entropy from logits as one compiled kernel in each direction.

TensorFlow's kernel makes several passes over the logits (tensorflow/core/kernels/xent_op.h), and
accepts only float32. The formulas are the same: the loss is log(sum(exp(x))) - x[label], and its
gradient is softmax(x) minus one at the label. A label out of range raises the same error. Under
XLA, which cannot raise, both return NaN.

TensorFlow's kernel may overwrite float32 logits with the gradient
(`forward_input_or_allocate_output` in tensorflow/core/kernels/sparse_xent_op.cc), while a compiled
kernel keeps the logits until the gradient is computed. So for large float32 logits in a step of
`fit` there are ops that overwrite them too, see `cross_entropy_ops`. Elsewhere XLA may compile a
function later, and TensorFlow's kernel stays. bfloat16 logits would have to be widened first, which
takes as much memory.
"""

from __future__ import annotations

import functools

from nano_init.keras_patch.faster.cross_entropy_ops import (
    forward_by_ops,
    losses_by_ops,
    recorded_backward,
    write_at_labels,
)
from nano_init.keras_patch.faster.fallback import with_faster_path
from nano_init.keras_patch.faster.pairwise_reduce import halvings, row_max, row_sum
from nano_init.keras_patch.faster.recording import may_be_differentiated
from nano_init.keras_patch.faster.xla_fusion import (
    is_compiled_by_xla,
    is_in_fit,
    is_large_in_graph,
    island,
    pays_in_fit,
    supposed_elements,
)
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Tensor

__all__ = ["cross_entropy_replacements"]

# The maximum number of float32 logits that are kept: 64 MB.
_MOST_KEPT = 2**24


def cross_entropy_replacements() -> Iterator[Replacement]:
    """Yield the replacements that compute the loss of integer labels, mostly in islands."""
    from keras.src.backend.tensorflow import nn

    original = vars(nn)["sparse_categorical_crossentropy"]
    faster = with_faster_path("cross_entropy", original, _applies, _cross_entropy)
    yield Replacement(nn, "sparse_categorical_crossentropy", faster)


def _applies(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> bool:
    logits = _logits_of(output, from_logits)
    if logits is None or not (_is_for_ops(logits) or _is_for_island(logits)):
        return False
    labels = _labels_of(target, logits.shape.rank)
    return (
        axis in (-1, logits.shape.rank - 1)
        and logits.shape.rank >= 2
        and labels is not None
        and labels.shape.is_compatible_with(logits.shape[:-1])
    )


def _cross_entropy(
    target: Tensor, output: Tensor, from_logits: bool = False, axis: int = -1
) -> Tensor:
    del axis
    import tensorflow as tf

    logits = _logits_of(output, from_logits)
    labels = tf.cast(_labels_of(target, logits.shape.rank), tf.int64)
    classes = logits.shape[-1]
    rows = tf.reshape(_before_cast(logits), [-1, classes])
    row_losses = losses_by_ops if _is_for_ops(logits) else _losses_by_island
    with tf.control_dependencies([_assert_in_range(labels, classes)]):
        losses = row_losses(rows, tf.reshape(labels, [-1]))
    losses = tf.reshape(losses, tf.shape(labels))
    losses.set_shape(logits.shape[:-1])
    return losses


def _logits_of(output: Any, from_logits: bool) -> Any:
    """Return the logits as Keras finds them, or None; Keras handles ambiguous outputs."""
    import tensorflow as tf

    if not isinstance(output, tf.Tensor) or isinstance(output, tf.__internal__.EagerTensor):
        return None
    known = getattr(output, "_keras_logits", None)
    if known is None and output.op.type == "Softmax":
        known = output.op.inputs[0]
    if from_logits:
        return output if known is None else None
    is_wide = isinstance(known, tf.Tensor) and known.dtype == tf.float32
    return known if is_wide else None


def _labels_of(target: Any, rank: int) -> Any:
    import tensorflow as tf

    if not isinstance(target, tf.Tensor) or target.shape.rank is None:
        return None
    if target.shape.rank == rank and target.shape[-1] == 1:
        target = tf.squeeze(target, -1)
    return target


def _is_for_island(logits: Tensor) -> bool:
    return not _costs_memory(logits) and is_large_in_graph(logits)


def _is_for_ops(logits: Tensor) -> bool:
    return is_in_fit() and _costs_memory(logits) and not is_compiled_by_xla()


def _costs_memory(logits: Tensor) -> bool:
    """Say whether logits are large and TensorFlow's kernel would overwrite them."""
    import tensorflow as tf

    is_wide = logits.dtype == _before_cast(logits).dtype == tf.float32
    return is_wide and supposed_elements(logits.shape) > _MOST_KEPT


def _before_cast(logits: Tensor) -> Tensor:
    """Return the bfloat16 tensor that logits were cast from, if any, otherwise the logits.

    The island computes in float32 either way; the gradient of a cast is a cast.
    """
    import tensorflow as tf

    if logits.op.type == "Cast" and logits.op.inputs[0].dtype == tf.bfloat16:
        return logits.op.inputs[0]
    return logits


def _assert_in_range(labels: Tensor, classes: int) -> Any:
    import tensorflow as tf

    is_valid = tf.reduce_all((labels >= 0) & (labels < classes))
    message = f"Received a label value which is outside the valid range of [0, {classes})."
    return tf.debugging.Assert(is_valid, [message, "Label values:", labels], summarize=64)


def _losses_by_island(rows: Tensor, labels: Tensor) -> Tensor:
    import tensorflow as tf

    folds, when = halvings(rows.shape[-1]), pays_in_fit("cross_entropy", rows)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def losses_of(rows: Tensor) -> Any:
        losses, normalizers = _forward(rows, labels, when=when, folds=folds)

        def gradient(upstream: Tensor) -> Tensor:
            if may_be_differentiated():
                return recorded_backward(rows, labels, upstream)
            scaled = _scaled_shares(rows, normalizers, upstream, when=when)
            chosen = tf.gather(rows, labels[:, None], batch_dims=1)
            share = tf.exp(tf.cast(chosen, tf.float32) - normalizers)
            return write_at_labels(scaled, labels, (share[:, 0] - 1.0) * upstream)

        return losses, gradient

    return losses_of(rows)


@functools.partial(island, plain=forward_by_ops)
def _forward(rows: Tensor, labels: Tensor, *, folds: int) -> tuple[Tensor, Tensor]:
    """Return the losses, of shape [rows], and log(sum(exp)), of shape [rows, 1]."""
    import tensorflow as tf

    wide = tf.cast(rows, tf.float32)
    top = row_max(wide, folds)
    normalizers = tf.math.log(row_sum(tf.exp(wide - top), folds)) + top
    classes = tf.shape(rows, labels.dtype)[-1]
    is_valid = (labels >= 0) & (labels < classes)
    chosen = tf.gather(wide, tf.clip_by_value(labels, 0, classes - 1), batch_dims=1)
    return tf.where(is_valid, normalizers[:, 0] - chosen, float("nan")), normalizers


@island
def _scaled_shares(rows: Tensor, normalizers: Tensor, upstream: Tensor) -> Tensor:
    """Return each softmax times the gradient by its loss; the labels' elements are left to others.

    Comparing each column with the label takes as long as half of the rest.
    """
    import tensorflow as tf

    shares = tf.exp(tf.cast(rows, tf.float32) - normalizers)
    return tf.cast(shares * upstream[:, None], rows.dtype)
