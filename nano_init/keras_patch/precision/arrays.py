"""NumPy arrays and spectra of bfloat16 tensors, within the layers that compute in it.

NumPy knows no bfloat16: what a layer reads of its own tensors is float32. TensorFlow's Fourier
transforms convert their input themselves before they compare its dtype.
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
    """Yield what reads bfloat16 tensors as float32 arrays within a layer, and for spectra.

    Args:
        keras_packages: The Keras packages whose layers are meant: `"keras"`, `"tf_keras"` or both.
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
            # A graph that captures the tensor reads it; a cast in it would capture it again.
            with tf.init_scope():
                wide = tf.cast(self, tf.float32)
            return read(wide, *args, **kwargs)
        return read(self, *args, **kwargs)

    return read_widened


class _WideningOps:
    """Stands for TensorFlow's module `ops` where spectra convert their inputs."""

    def __init__(self, ops: Any) -> None:
        self._ops = ops

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def convert_to_tensor(self, value: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Convert a value; bfloat16 becomes float32."""
        import tensorflow as tf

        tensor = self._ops.convert_to_tensor(value, *args, **kwargs)
        return tf.cast(tensor, tf.float32) if tensor.dtype == tf.bfloat16 else tensor
