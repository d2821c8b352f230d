"""NumPy arrays and Fourier transforms of bfloat16 tensors, inside bfloat16 layers.

NumPy does not support bfloat16, so a layer reads its own tensors as float32 arrays. TensorFlow's
Fourier transforms convert their input before they check its dtype.
"""

from __future__ import annotations

import functools

from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Tensor

__all__ = ["array_replacements"]


def array_replacements(keras_packages: frozenset[str]) -> Iterator[Replacement]:
    """Yield the replacements that read bfloat16 as float32 in layers and Fourier transforms.

    Args:
        keras_packages: The Keras packages with these layers: `"keras"`, `"tf_keras"` or both.
    """
    from tensorflow.python.framework import ops
    from tensorflow.python.ops.signal import fft_ops

    is_inside = _inside(keras_packages)
    base = ops._EagerTensorBase
    for name in ("numpy", "__array__"):
        yield Replacement(base, name, _wrap_array(vars(base)[name], is_inside))
    yield Replacement(fft_ops, "_ops", _WideningOps(fft_ops._ops))


def _inside(keras_packages: frozenset[str]) -> Callable[[], bool]:
    tests: list[Callable[[], bool]] = []
    if "keras" in keras_packages:
        from keras.src.backend.common import global_state

        def is_inside() -> bool:
            tracker = global_state.GLOBAL_STATE_TRACKER
            return getattr(tracker, "current_call_ctx", None) is not None

        tests.append(is_inside)
    if "tf_keras" in keras_packages:
        from tf_keras.src.engine.base_layer_utils import call_context

        tests.append(lambda: bool(call_context().in_call))
    return lambda: any(test() for test in tests)


def _wrap_array(read: Callable[..., Any], is_inside: Callable[[], bool]) -> Callable[..., Any]:
    import tensorflow as tf

    @functools.wraps(read)
    def read_widened(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.dtype is tf.bfloat16 and is_inside():
            # A graph that captures the tensor reads it; a cast inside would capture it again.
            with tf.init_scope():
                wide = tf.cast(self, tf.float32)
            return read(wide, *args, **kwargs)
        return read(self, *args, **kwargs)

    return read_widened


class _WideningOps:
    """A substitute for TensorFlow's module `ops` where Fourier transforms convert their inputs."""

    def __init__(self, ops: Any) -> None:
        self._ops = ops

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def convert_to_tensor(self, value: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Convert a value to a tensor; bfloat16 becomes float32."""
        import tensorflow as tf

        tensor = self._ops.convert_to_tensor(value, *args, **kwargs)
        return tf.cast(tensor, tf.float32) if tensor.dtype == tf.bfloat16 else tensor
