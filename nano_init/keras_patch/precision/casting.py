"""Narrow floating tensors to bfloat16 and widen them again without loss.

A narrowed tensor remembers the float32 tensor that it was cast from. If it is widened in the same
function call, the original is returned.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.recording import is_recorded
from nano_init.keras_patch.precision.backward_pass import is_backward_pass
from nano_init.keras_patch.precision.replay_on_source import repeat_on_origin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nano_init.keras_patch.tensor_types import DType, Graph, Tensor

__all__ = ["digits_for", "narrow", "remember_autocast", "remember_unrounded", "unrounded", "widen"]

_MEMORY = "_nano_original"
_ORIGIN = "_nano_autocast_origin"
_UNROUNDED = "_nano_unrounded"


def narrow(value: Any) -> Any:
    """Return a float32 or float16 tensor or array as bfloat16; return other values unchanged.

    float64 is not changed: a user who chose it wants its precision, and a Keras layer casts it to
    its own compute dtype anyway. Variables, models, NumPy scalars, integers, booleans and strings
    are not changed either.

    Args:
        value: One leaf of a nest. Sparse and ragged tensors keep their structure.
    """
    import numpy as np
    import tensorflow as tf

    if isinstance(value, np.ndarray):
        return _narrow_tensor(tf.convert_to_tensor(value)) if _is_wide(value.dtype.name) else value
    if isinstance(value, tf.Tensor):
        return _narrow_tensor(value) if _is_wide(value.dtype.name) else value
    if _is_composite(value):
        return tf.nest.map_structure(_narrow_component, value, expand_composites=True)
    return value


def widen(value: Any) -> Any:
    """Return a bfloat16 tensor as float32; return other values unchanged.

    Args:
        value: One leaf of a nest; for a narrowed tensor its original is returned.
    """
    import tensorflow as tf

    if isinstance(value, tf.Tensor):
        return _widen_tensor(value) if value.dtype == tf.bfloat16 else value
    if _is_composite(value):
        return tf.nest.map_structure(_widen_component, value, expand_composites=True)
    return value


def _original_of(value: Any) -> Tensor | None:
    """Return the float32 values that a narrowed tensor was cast from, or None.

    Gradients flow to the narrowed tensor as they do through a cast, so that a tape which
    watches an argument of the function still finds it.

    Args:
        value: Any object.
    """
    return repeat_on_origin(value, _restored)


def _restored(value: Any) -> Tensor | None:
    original = getattr(value, _MEMORY, None)
    if original is None:
        return None
    import tensorflow as tf

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def restore(narrowed: Tensor) -> Any:
        return tf.stop_gradient(original), lambda grad: tf.cast(grad, narrowed.dtype)

    return restore(value)


def remember_autocast(converted: Tensor, origin: Any) -> Tensor:
    """Return a tensor that Keras cast to bfloat16, with a record of its original.

    Args:
        converted: The tensor after the cast, or one of any other dtype.
        origin: The tensor or array before the cast; other values are not recorded.
    """
    import numpy as np
    import tensorflow as tf

    if converted.dtype != tf.bfloat16:
        return converted
    if isinstance(origin, np.ndarray):
        origin = tf.convert_to_tensor(origin)
    if isinstance(origin, tf.Tensor):
        _remember(converted, origin)
    elif _is_composite(origin):
        parts = (tf.nest.flatten(nest, expand_composites=True) for nest in (converted, origin))
        for narrow_part, wide_part in zip(*parts, strict=True):
            if narrow_part.dtype == tf.bfloat16:
                _remember(narrow_part, wide_part)
    return converted


def _remember(converted: Tensor, origin: Tensor) -> None:
    if _graph_of(origin) in (None, _graph_of(converted)):
        setattr(converted, _ORIGIN, origin)


def remember_unrounded(rounded: Tensor, unrounded: Tensor) -> None:
    """Record the float32 tensor that a bfloat16 result of an op was rounded from.

    Args:
        rounded: The result, recorded by tapes.
        unrounded: The tensor before it was rounded, of the same graph. Tapes do not know it.
    """
    setattr(rounded, _UNROUNDED, unrounded)


def unrounded(value: Any) -> Tensor | None:
    """Return the float32 tensor that an op's result was rounded from in this graph, or None.

    Args:
        value: Any object.
    """
    from tensorflow.python.framework.ops import get_default_graph

    found: Tensor | None = getattr(value, _UNROUNDED, None)
    if found is None or found.graph is not get_default_graph():
        return None
    found.set_shape(value.shape)
    return found


def digits_for(value: Any, dtype: DType) -> Any:
    """Return the original of a rounded tensor, for a cast that needs its precision.

    Args:
        value: The value to be cast.
        dtype: The target dtype; bfloat16 and float16 need no more precision.
    """
    import tensorflow as tf

    if getattr(value, "dtype", None) != tf.bfloat16:
        return value
    if tf.as_dtype(dtype).base_dtype in (tf.bfloat16, tf.float16):
        return value
    origin = repeat_on_origin(value, lambda tensor: getattr(tensor, _ORIGIN, None))
    if origin is None:
        origin = _original_of(value)
    # No tape has recorded the unrounded tensor. In the forward pass it would take more memory.
    if origin is None and is_backward_pass() and not is_recorded():
        origin = repeat_on_origin(value, unrounded)
    return value if origin is None else origin


def _graph_of(tensor: Tensor) -> Graph | None:
    import tensorflow as tf

    return None if isinstance(tensor, tf.__internal__.EagerTensor) else tensor.graph


def _is_wide(name: str) -> bool:
    return name in ("float32", "float16")


def _is_composite(value: Any) -> bool:
    import tensorflow as tf

    return isinstance(value, (tf.RaggedTensor, tf.SparseTensor, tf.IndexedSlices))


def _narrow_component(value: Any) -> Any:
    import tensorflow as tf

    is_wide = isinstance(value, tf.Tensor) and _is_wide(value.dtype.name)
    return _narrow_tensor(value) if is_wide else value


def _widen_component(value: Any) -> Any:
    import tensorflow as tf

    is_narrow = isinstance(value, tf.Tensor) and value.dtype == tf.bfloat16
    return _widen_tensor(value) if is_narrow else value


def _narrow_tensor(tensor: Tensor) -> Tensor:
    import tensorflow as tf

    narrowed = tf.cast(tensor, tf.bfloat16)
    setattr(narrowed, _MEMORY, tensor)
    return narrowed


def _widen_tensor(tensor: Tensor) -> Tensor:
    import tensorflow as tf

    original = _original_of(tensor)
    return tf.cast(tensor if original is None else original, tf.float32)
