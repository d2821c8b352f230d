"""Sparse categorical cross-entropy from logits as one compiled kernel in each direction.

TensorFlow's kernel makes several passes over the logits (tensorflow/core/kernels/xent_op.h), and
accepts only float32. The formulas are the same: the loss is log(sum(exp(x))) - x[label], and its
gradient is softmax(x) minus one at the label. A label out of range raises the same error. Under
XLA, which cannot raise, both return NaN.

TensorFlow's kernel may overwrite float32 logits with the gradient
(`forward_input_or_allocate_output` in tensorflow/core/kernels/sparse_xent_op.cc), while this path
keeps the logits until the gradient is computed. So large float32 logits use TensorFlow's kernel.
bfloat16 logits would have to be widened for it first, which takes as much memory.
"""

from __future__ import annotations

import functools

from nano_init.keras_patch.faster.fallback import with_faster_path
from nano_init.keras_patch.faster.pairwise_reduce import halvings, row_max, row_sum
from nano_init.keras_patch.faster.recording import is_recorded
from nano_init.keras_patch.faster.xla_fusion import (
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
    """Yield the replacements that compute the loss of integer labels in islands."""
    from keras.src.backend.tensorflow import nn

    original = vars(nn)["sparse_categorical_crossentropy"]
    faster = with_faster_path("cross_entropy", original, _applies, _cross_entropy)
    yield Replacement(nn, "sparse_categorical_crossentropy", faster)


def _applies(target: Any, output: Any, from_logits: bool = False, axis: int = -1) -> bool:
    logits = _logits_of(output, from_logits)
    if logits is None or _costs_memory(logits) or not is_large_in_graph(logits):
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
    with tf.control_dependencies([_assert_in_range(labels, classes)]):
        losses = _row_losses(rows, tf.reshape(labels, [-1]))
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


def _costs_memory(logits: Tensor) -> bool:
    """Say whether logits are large and TensorFlow's kernel would overwrite them."""
    import tensorflow as tf

    is_wide = _before_cast(logits).dtype == tf.float32
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


def _row_losses(rows: Tensor, labels: Tensor) -> Tensor:
    import tensorflow as tf

    folds, when = halvings(rows.shape[-1]), pays_in_fit("cross_entropy", rows)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def losses_of(rows: Tensor) -> Any:
        losses, normalizers = _forward(rows, labels, when=when, folds=folds)

        def gradient(upstream: Tensor) -> Tensor:
            if is_recorded():
                return _plain_backward(rows, labels, normalizers, upstream)
            return _backward(rows, labels, normalizers, upstream, when=when)

        return losses, gradient

    return losses_of(rows)


def _plain_forward(rows: Tensor, labels: Tensor, *, folds: int) -> tuple[Tensor, Tensor]:
    del folds
    import tensorflow as tf

    wide = tf.cast(rows, tf.float32)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, wide)
    return losses, losses[:, None] + tf.gather(wide, labels[:, None], batch_dims=1)


@functools.partial(island, plain=_plain_forward)
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


def _plain_backward(rows: Tensor, labels: Tensor, normalizers: Tensor, upstream: Tensor) -> Tensor:
    del normalizers
    import tensorflow as tf

    shares = tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(
        features=tf.cast(rows, tf.float32), labels=labels
    )
    return tf.cast(shares.backprop * upstream[:, None], rows.dtype)


@functools.partial(island, plain=_plain_backward)
def _backward(rows: Tensor, labels: Tensor, normalizers: Tensor, upstream: Tensor) -> Tensor:
    import tensorflow as tf

    shares = tf.exp(tf.cast(rows, tf.float32) - normalizers)
    is_label = tf.range(tf.shape(rows, labels.dtype)[-1])[None] == labels[:, None]
    gradient = tf.where(is_label, shares - 1.0, shares) * upstream[:, None]
    return tf.cast(gradient, rows.dtype)
