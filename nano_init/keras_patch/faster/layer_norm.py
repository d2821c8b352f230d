"""LayerNormalization and RMSNormalization over the last axis as compiled kernels.

Keras 3 normalizes with about ten ops in float32 and as many for the gradient (keras/src/ops/
nn.py, `_layer_normalization` and `_rms_normalization`). The formulas here are the same, with an
explicit gradient (Ba et al., "Layer Normalization", 2016). The sums over rows for the gradients of
gamma and beta are matrix products, because XLA's own column sums run in one thread.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fallback import with_faster_path
from nano_init.keras_patch.faster.pairwise_reduce import halvings, row_mean
from nano_init.keras_patch.faster.recording import may_be_differentiated
from nano_init.keras_patch.faster.xla_fusion import is_worth_an_island, island, pays_in_fit
from nano_init.keras_patch.ledger import Replacement
from nano_init.keras_patch.precision.casting import digits_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Layer, Tensor, Variable

__all__ = ["layer_norm_replacements"]


def layer_norm_replacements() -> Iterator[Replacement]:
    """Yield the replacements that normalize the last axis in islands during training."""
    from keras import layers

    original = vars(layers.LayerNormalization)["call"]
    faster = with_faster_path("layer_norm", original, _applies, _normalize)
    yield Replacement(layers.LayerNormalization, "call", faster)
    # Earlier versions of Keras 3 lack this layer.
    if hasattr(layers, "RMSNormalization"):
        original = vars(layers.RMSNormalization)["call"]
        faster = with_faster_path("layer_norm", original, _rms_applies, _normalize_rms)
        yield Replacement(layers.RMSNormalization, "call", faster)


def _applies(layer: Layer, inputs: Any) -> bool:
    return not layer.rms_scaling and _fits(layer, inputs)


def _rms_applies(layer: Layer, x: Any) -> bool:
    return _fits(layer, x)


def _fits(layer: Layer, inputs: Any) -> bool:
    return (
        is_worth_an_island(inputs)
        and inputs.shape.rank >= 2
        and _is_last_axis(layer.axis, inputs.shape.rank)
        and layer.variable_dtype == "float32"
        and layer.compute_dtype in ("float32", "bfloat16")
        # If a model's float32 input was cast for this layer, Keras's own path recovers the
        # original values when it casts the input back.
        and digits_for(inputs, "float32") is inputs
    )


def _is_last_axis(axis: Any, rank: int) -> bool:
    axes = [axis] if isinstance(axis, int) else list(axis)
    return axes in ([-1], [rank - 1])


def _normalize(layer: Layer, inputs: Tensor) -> Tensor:
    rows = _rows_of(inputs)
    gamma, beta = _weight(layer.gamma, rows, 1.0), _weight(layer.beta, rows, 0.0)
    outputs = _layer_normalized(rows, gamma, beta, layer.epsilon, layer.compute_dtype)
    return _as_shape_of(inputs, outputs)


def _normalize_rms(layer: Layer, x: Tensor) -> Tensor:
    rows = _rows_of(x)
    outputs = _rms_normalized(rows, _weight(layer.scale, rows, 1.0), layer.epsilon)
    return _as_shape_of(x, outputs)


def _layer_normalized(
    rows: Tensor, gamma: Tensor, beta: Tensor, epsilon: float, dtype: str
) -> Tensor:
    import tensorflow as tf

    folds, when = halvings(rows.shape[-1]), pays_in_fit("layer_norm", rows)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def normalize(rows: Tensor, gamma: Tensor, beta: Tensor) -> Any:
        tensors = (rows, gamma, beta, tf.constant(epsilon, tf.float32))
        outputs, mean, inverse = _layer_forward(*tensors, when=when, folds=folds)

        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            upstream = tf.cast(upstream, dtype)
            if may_be_differentiated():
                kept = _layer_forward.plain(*tensors, folds=folds)[1:]
                given = (rows, gamma, *kept, upstream)
                by_rows, products, wide = _layer_backward.plain(*given, folds=folds)
            else:
                given = (rows, gamma, mean, inverse, upstream)
                by_rows, products, wide = _layer_backward(*given, when=when, folds=folds)
            return by_rows, _column_sums(products), _column_sums(wide)

        return tf.cast(outputs, dtype), gradient

    return normalize(rows, gamma, beta)


def _rms_normalized(rows: Tensor, scale: Tensor, epsilon: float) -> Tensor:
    import tensorflow as tf

    folds, when = halvings(rows.shape[-1]), pays_in_fit("rms_norm", rows)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def normalize(rows: Tensor, scale: Tensor) -> Any:
        tensors = (rows, scale, tf.constant(epsilon, tf.float32))
        outputs, inverse = _rms_forward(*tensors, when=when, folds=folds)

        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            if may_be_differentiated():
                kept = _rms_forward.plain(*tensors, folds=folds)[1]
                given = (rows, scale, kept, upstream)
                by_rows, products = _rms_backward.plain(*given, folds=folds)
            else:
                given = (rows, scale, inverse, upstream)
                by_rows, products = _rms_backward(*given, when=when, folds=folds)
            return by_rows, _column_sums(products)

        return outputs, gradient

    return normalize(rows, scale)


def _row_island(function: Callable[..., Any]) -> Any:
    """Return an island that halves rows under XLA only."""

    def plain(*tensors: Tensor, folds: int) -> Any:
        del folds
        return function(*tensors, folds=0)

    return island(function, plain)


@_row_island
def _layer_forward(
    rows: Tensor, gamma: Tensor, beta: Tensor, epsilon: Tensor, *, folds: int
) -> tuple[Tensor, Tensor, Tensor]:
    import tensorflow as tf

    wide = tf.cast(rows, tf.float32)
    mean = row_mean(wide, folds)
    inverse = tf.math.rsqrt(row_mean(tf.square(wide - mean), folds) + epsilon)
    outputs = (wide - mean) * inverse * gamma + beta
    return tf.cast(outputs, rows.dtype), mean, inverse


@_row_island
def _layer_backward(
    rows: Tensor, gamma: Tensor, mean: Tensor, inverse: Tensor, upstream: Tensor, *, folds: int
) -> tuple[Tensor, Tensor, Tensor]:
    import tensorflow as tf

    normalized = (tf.cast(rows, tf.float32) - mean) * inverse
    wide = tf.cast(upstream, tf.float32)
    by_normalized = wide * gamma
    products = wide * normalized
    centred = by_normalized - row_mean(by_normalized, folds)
    by_rows = inverse * (centred - normalized * row_mean(by_normalized * normalized, folds))
    return tf.cast(by_rows, rows.dtype), products, wide


@_row_island
def _rms_forward(
    rows: Tensor, scale: Tensor, epsilon: Tensor, *, folds: int
) -> tuple[Tensor, Tensor]:
    import tensorflow as tf

    wide = tf.cast(rows, tf.float32)
    inverse = tf.math.rsqrt(row_mean(tf.square(wide), folds) + epsilon)
    return tf.cast(wide * inverse * scale, rows.dtype), inverse


@_row_island
def _rms_backward(
    rows: Tensor, scale: Tensor, inverse: Tensor, upstream: Tensor, *, folds: int
) -> tuple[Tensor, Tensor]:
    import tensorflow as tf

    normalized = tf.cast(rows, tf.float32) * inverse
    wide = tf.cast(upstream, tf.float32)
    by_normalized = wide * scale
    by_rows = inverse * (by_normalized - normalized * row_mean(by_normalized * normalized, folds))
    return tf.cast(by_rows, rows.dtype), wide * normalized


def _column_sums(rows: Tensor) -> Tensor:
    import tensorflow as tf

    return tf.matmul(tf.ones([1, tf.shape(rows)[0]]), rows)[0]


def _rows_of(inputs: Tensor) -> Tensor:
    import tensorflow as tf

    return tf.reshape(inputs, [-1, inputs.shape[-1]])


def _as_shape_of(inputs: Tensor, rows: Tensor) -> Tensor:
    import tensorflow as tf

    outputs = tf.reshape(rows, tf.shape(inputs))
    outputs.set_shape(inputs.shape)
    return outputs


def _weight(weight: Variable | None, rows: Tensor, default: float) -> Tensor:
    import tensorflow as tf

    if weight is None:
        return tf.fill([rows.shape[-1]], tf.constant(default, tf.float32))
    return tf.cast(tf.convert_to_tensor(weight), tf.float32)
