"""Layers and models return float32 to the script, with the logits for a stable loss.

Inside, everything stays in the compute dtype. Where the outermost layer or model returns its
outputs, bfloat16 becomes float32, so losses, metrics, `predict`, NumPy and raw TensorFlow code
compute as for a float32 layer. For the stable form of cross-entropy Keras needs the attribute
`_keras_logits` of a softmax or sigmoid output, or the op that created it
(keras/src/backend/tensorflow/nn.py, `_get_logits`); a plain cast would lose both.
"""

from __future__ import annotations

import functools

from nano_init.keras_patch.ledger import Replacement
from nano_init.keras_patch.precision.float32_fallback import falling_back
from nano_init.keras_patch.precision.inner_outputs import remember_inner_output
from nano_init.keras_patch.precision.layer_policies import keras_policies
from nano_init.keras_patch.precision.nest import map_leaves

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Layer, Tensor

__all__ = ["boundary_replacements", "float32_output", "of_float32_predictions"]

_ACTIVATION = "_nano_activation"
_BY_OP = {"Softmax": "softmax", "Sigmoid": "sigmoid"}


def boundary_replacements() -> Iterator[Replacement]:
    """Yield the replacements that widen model outputs, and predictions in losses and metrics."""
    from keras.src.backend.tensorflow import nn
    from keras.src.layers.layer import Layer
    from keras.src.losses.loss import Loss
    from keras.src.metrics.reduction_metrics import MeanMetricWrapper

    call = _wrap_layer_call(falling_back(vars(Layer)["__call__"], keras_policies()))
    yield Replacement(Layer, "__call__", call)
    yield Replacement(Loss, "__call__", of_float32_predictions(vars(Loss)["__call__"]))
    update = vars(MeanMetricWrapper)["update_state"]
    yield Replacement(MeanMetricWrapper, "update_state", of_float32_predictions(update))
    yield Replacement(nn, "softmax", _wrap_activation(nn.softmax))
    yield Replacement(nn, "sigmoid", _wrap_activation(nn.sigmoid))


def float32_output(output: Any) -> Any:
    """Return a bfloat16 output in float32, with probabilities recomputed from the logits.

    Args:
        output: A tensor, including ragged and sparse ones; other values are returned unchanged.
    """
    import tensorflow as tf

    if isinstance(output, (tf.RaggedTensor, tf.SparseTensor)):
        return tf.cast(output, tf.float32) if output.dtype == tf.bfloat16 else output
    # Symbolic tensors are not changed: a cast would become a layer of the model (tf_keras).
    if not isinstance(output, tf.Tensor) or output.dtype != tf.bfloat16:
        return output
    by_op, activation_by_op = _logits_of_op(output)
    logits = getattr(output, "_keras_logits", by_op)
    activation = getattr(output, _ACTIVATION, activation_by_op)
    is_cast = logits is None or activation is None
    wide = None if logits is None else tf.cast(logits, tf.float32)
    # As bfloat16, probabilities above 0.998 would be 1, and rows would not sum to 1.
    result = tf.cast(output, tf.float32) if is_cast else activation(wide)
    if wide is not None:
        result._keras_logits = wide
    remember_inner_output(result, output, is_cast=is_cast)
    return _with_mask_of(output, result)


def _wrap_layer_call(call: Callable[..., Any]) -> Callable[..., Any]:
    from keras.src.backend.common import global_state

    @functools.wraps(call)
    def call_with_float32_outputs(self: Layer, *args: Any, **kwargs: Any) -> Any:
        tracker = global_state.GLOBAL_STATE_TRACKER
        is_nested = getattr(tracker, "current_call_ctx", None) is not None
        outputs = call(self, *args, **kwargs)
        if is_nested or self.variable_dtype == "bfloat16":
            return outputs
        return map_leaves(float32_output, outputs)

    return call_with_float32_outputs


def of_float32_predictions(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of a loss or metric that gets predictions in float32.

    Args:
        function: Takes the object, the targets and the predictions.
    """

    @functools.wraps(function)
    def predict_in_float32(self: Any, y_true: Any, y_pred: Any, *args: Any, **kw: Any) -> Any:
        return function(self, y_true, map_leaves(float32_output, y_pred), *args, **kw)

    return predict_in_float32


def _wrap_activation(activation: Callable[..., Any]) -> Callable[..., Any]:
    import tensorflow as tf

    @functools.wraps(activation)
    def activate_and_remember(x: Any, *args: Any, **kwargs: Any) -> Any:
        output = activation(x, *args, **kwargs)
        if isinstance(output, tf.Tensor) and output.dtype == tf.bfloat16:
            again = functools.partial(activation, *args, **kwargs)
            setattr(output, _ACTIVATION, again)
        return output

    return activate_and_remember


def _logits_of_op(output: Tensor) -> tuple[Tensor | None, Any]:
    import tensorflow as tf

    if isinstance(output, tf.__internal__.EagerTensor) or output.op.type not in _BY_OP:
        return None, None
    return output.op.inputs[0], getattr(tf.nn, _BY_OP[output.op.type])


def _with_mask_of(output: Tensor, result: Tensor) -> Tensor:
    mask = getattr(output, "_keras_mask", None)
    if mask is not None:
        result._keras_mask = mask
    return result
