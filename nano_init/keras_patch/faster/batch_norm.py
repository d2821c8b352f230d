"""BatchNormalization through TensorFlow's fused kernel, or fewer ops where that is slow.

Keras 3 normalizes with a chain of elementwise ops in float32 and casts on both sides
(keras/src/layers/normalization/batch_normalization.py, `call`), and updates its statistics with
the biased variance.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.batch_norm_ways import (
    Way,
    fused_inference,
    normalize_batch,
    way_for,
)
from nano_init.keras_patch.faster.fallback import with_faster_path
from nano_init.keras_patch.faster.xla_fusion import as_shape_of, is_compiled_by_xla
from nano_init.keras_patch.ledger import Replacement
from nano_init.keras_patch.precision.casting import digits_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Layer, Tensor, TensorShape, Variable

__all__ = ["batch_norm_replacements"]


def batch_norm_replacements() -> Iterator[Replacement]:
    """Yield the replacements that run BatchNormalization over the last axis in the fused kernel."""
    from keras.layers import BatchNormalization

    original = vars(BatchNormalization)["call"]
    faster = with_faster_path("batch_norm", original, _applies, _normalize)
    yield Replacement(BatchNormalization, "call", faster)


def _applies(layer: Layer, inputs: Any, training: Any = None, mask: Any = None) -> bool:
    import tensorflow as tf
    from keras.layers import BatchNormalization

    return (
        mask is None
        and isinstance(inputs, tf.Tensor)
        and inputs.dtype in (tf.float32, tf.bfloat16)
        and _is_last_axis(layer.axis, inputs.shape)
        # If `training` is a tensor, the choice between two ops cannot be made here.
        and (training is None or isinstance(training, (bool, int)))
        and not layer.synchronized
        and not getattr(layer, "renorm", False)
        and _is_exact_in(layer.compute_dtype)
        and layer.variable_dtype == "float32"
        and type(layer)._moments is BatchNormalization._moments
        and (_is_training(layer, training) or _is_inference_faster(inputs.shape))
    )


def _is_inference_faster(shape: TensorShape) -> bool:
    return way_for(shape, is_training=False) is Way.KERNEL


def _is_exact_in(dtype: str) -> bool:
    # XLA's version of the kernel computes the variance in one pass, with an error of 0.3 % in
    # float32 for a mean of 100 standard deviations.
    return dtype == "bfloat16" or (dtype == "float32" and not is_compiled_by_xla())


def _is_last_axis(axis: int, shape: TensorShape) -> bool:
    rank = shape.rank
    return rank is not None and rank >= 2 and axis in (-1, rank - 1) and shape[-1] is not None


def _normalize(layer: Layer, inputs: Tensor, training: Any = None, mask: Any = None) -> Tensor:
    del mask
    import tensorflow as tf

    is_training = _is_training(layer, training)
    wide = tf.cast(_fit_for_kernel(layer, inputs), _kernel_dtype(layer, inputs))
    mean, variance = (tf.convert_to_tensor(v) for v in (layer.moving_mean, layer.moving_variance))
    # In Keras 3.3 a layer without these weights lacks the attributes.
    scale = _or_constant(getattr(layer, "gamma", None), tf.ones_like, mean)
    offset = _or_constant(getattr(layer, "beta", None), tf.zeros_like, mean)
    if not is_training:
        result = fused_inference(_as_rank_4(wide), scale, offset, mean, variance, layer.epsilon)
        return tf.cast(_as_shape_of(inputs, result), layer.compute_dtype)
    way = way_for(inputs.shape, is_training=True)
    given = _as_rank_4(wide) if way is Way.KERNEL else _as_rows(wide)
    result, batch_mean, biased = normalize_batch(given, scale, offset, layer.epsilon, way)
    share, rest = (tf.constant(s, tf.float32) for s in (layer.momentum, 1.0 - layer.momentum))
    layer.moving_mean.assign(mean * share + batch_mean * rest)
    layer.moving_variance.assign(variance * share + biased * rest)
    return tf.cast(_as_shape_of(inputs, result), layer.compute_dtype)


def _is_training(layer: Layer, training: Any) -> bool:
    return bool(training and layer.trainable)


def _fit_for_kernel(layer: Layer, inputs: Tensor) -> Tensor:
    # A model's float32 input that was cast for this layer still has its original values.
    return digits_for(inputs, layer.variable_dtype)


def _kernel_dtype(layer: Layer, inputs: Tensor) -> str:
    is_narrow = layer.compute_dtype == "bfloat16" and inputs.dtype.name == "bfloat16"
    has_digits = _fit_for_kernel(layer, inputs) is not inputs
    # oneDNN takes its reference implementation for other numbers of bfloat16 channels, which is
    # four to eight times slower than the float32 kernel (oneDNN 3.7, Zen 4).
    is_optimized = inputs.shape[-1] % 16 == 0
    return "bfloat16" if is_narrow and is_optimized and not has_digits else "float32"


def _as_rank_4(tensor: Tensor) -> Tensor:
    import tensorflow as tf

    shape = tensor.shape
    return tensor if shape.rank == 4 else tf.reshape(tensor, [-1, 1, 1, shape[-1]])


def _as_rows(tensor: Tensor) -> Tensor:
    import tensorflow as tf

    shape = tensor.shape
    return tensor if shape.rank == 2 else tf.reshape(tensor, [-1, shape[-1]])


def _as_shape_of(inputs: Tensor, tensor: Tensor) -> Tensor:
    return tensor if inputs.shape.rank == tensor.shape.rank else as_shape_of(inputs, tensor)


def _or_constant(
    weight: Variable | None, constant: Callable[[Tensor], Tensor], like: Tensor
) -> Tensor:
    import tensorflow as tf

    return constant(like) if weight is None else tf.convert_to_tensor(weight)
