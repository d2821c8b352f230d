"""Preprocessing layers compute in float32 and return their compute dtype.

Their inputs are raw data, for which bfloat16 is too coarse: a year minus the mean year, a value
compared with the edge of a bin, a category above 256. Inside a graph Keras casts even their integer
inputs to the compute dtype (keras/src/layers/preprocessing/data_layer.py).
"""

from __future__ import annotations

import functools

from nano_init.keras_patch.ledger import Replacement
from nano_init.keras_patch.precision.casting import remember_autocast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Layer

__all__ = ["preprocessing_replacements"]


def preprocessing_replacements() -> Iterator[Replacement]:
    """Yield the replacements that widen layers whose results need their inputs' full precision."""
    from keras import layers
    from keras.src.layers.layer import Layer

    compute_dtype = vars(Layer)["compute_dtype"].fget
    wide = property(functools.partial(_wide_compute_dtype, compute_dtype))
    for owner in (
        layers.CategoryEncoding,
        layers.Discretization,
        layers.Normalization,
        layers.Rescaling,
    ):
        yield Replacement(owner, "compute_dtype", wide, inherited=True)
        yield Replacement(owner, "call", _wrap_call(compute_dtype, vars(owner)["call"]))


def _wide_compute_dtype(compute_dtype: Callable[[Layer], str], layer: Layer) -> str:
    return "float32" if _is_narrow(compute_dtype, layer) else compute_dtype(layer)


def _is_narrow(compute_dtype: Callable[[Layer], str], layer: Layer) -> bool:
    return compute_dtype(layer) == "bfloat16" and layer.variable_dtype == "float32"


def _wrap_call(
    compute_dtype: Callable[[Layer], str], call: Callable[..., Any]
) -> Callable[..., Any]:
    import tensorflow as tf

    @functools.wraps(call)
    def call_in_float32(self: Layer, *args: Any, **kwargs: Any) -> Any:
        outputs = call(self, *args, **kwargs)
        is_wide = isinstance(outputs, (tf.Tensor, tf.SparseTensor)) and outputs.dtype == tf.float32
        if is_wide and _is_narrow(compute_dtype, self):
            return remember_autocast(tf.cast(outputs, tf.bfloat16), outputs)
        return outputs

    return call_in_float32
