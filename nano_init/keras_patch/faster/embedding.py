"""An Embedding that reads only the rows that it looks up, never the whole table.

Keras 3 reads the variable and gathers from the result (keras/src/backend/tensorflow/numpy.py,
`take`). That is free as long as the read shares the variable's memory. But once an optimizer has
updated single rows (SGD without momentum, LazyAdam), TensorFlow copies the whole table at every
read (`copy_on_read_mode` in tensorflow/core/framework/resource_var.h). `ResourceGather` reads the
rows from the variable itself, with the same values and the same sparse gradient.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.fallback import with_faster_path
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Layer, Tensor

__all__ = ["embedding_replacements"]


def embedding_replacements() -> Iterator[Replacement]:
    """Yield the replacements that look up ids in the variable itself."""
    from keras.layers import Embedding

    faster = with_faster_path("embedding", vars(Embedding)["call"], _applies, _call)
    yield Replacement(Embedding, "call", faster)


def _applies(layer: Layer, inputs: Any) -> bool:
    import tensorflow as tf

    if layer.lora_enabled or _is_quantized(layer) or not isinstance(inputs, tf.Tensor):
        return False
    # In a stateless scope, or under an outer layer's autocast, it is a tensor.
    return isinstance(layer._embeddings.value, tf.Variable)


def _is_quantized(layer: Layer) -> bool:
    # Keras 3.3 lacks this attribute: it calls `quantized_call` for a quantized layer instead.
    return getattr(layer, "quantization_mode", None) is not None


def _call(layer: Layer, inputs: Tensor) -> Tensor:
    import tensorflow as tf

    if inputs.dtype not in (tf.int32, tf.int64):
        inputs = tf.cast(inputs, tf.int32)
    # As in `take`, a negative id counts from the end of the table.
    ids = tf.where(inputs < 0, inputs + layer.input_dim, inputs)
    return tf.cast(tf.gather(layer._embeddings.value, ids), layer.compute_dtype)
