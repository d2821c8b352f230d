"""GELU, SiLU, ReLU6 and hard SiLU as one compiled kernel each, forward and backward.

Keras computes them as chains of ops (tensorflow/python/ops/nn_ops.py, `gelu`;
tensorflow/python/ops/nn_impl.py, `swish`; keras/src/backend/tensorflow/nn.py); exact GELU needs six
in each direction. The formulas here are the same, with explicit derivatives.
"""

from __future__ import annotations

import math

from nano_init.keras_patch.faster.fallback import with_faster_path
from nano_init.keras_patch.faster.xla_fusion import is_worth_an_island, with_compiled_gradient
from nano_init.keras_patch.ledger import Replacement
from nano_init.keras_patch.own_frames import without_own_frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Tensor

__all__ = ["activations_replacements"]

_TANH_SCALE = math.sqrt(2 / math.pi)
_TANH_CUBIC = 0.044715


def activations_replacements() -> Iterator[Replacement]:
    """Yield the replacements that compute these activations in islands during training.

    Scripts also call TensorFlow's functions themselves, as in `Dense(8, tf.nn.gelu)`.
    """
    from keras.src.backend.tensorflow import nn
    from tensorflow.python.ops import nn_impl, nn_ops

    exact = with_compiled_gradient(_gelu, _gelu_gradient)
    by_tanh = with_compiled_gradient(_tanh_gelu, _tanh_gelu_gradient)

    def gelu(x: Any, approximate: bool = True) -> Any:
        return (by_tanh if approximate else exact)(x)

    def tensorflow_gelu(features: Any, approximate: bool = False) -> Any:
        return gelu(features, approximate)

    yield _replacement(nn, "gelu", _gelu_applies, gelu)
    yield from _of_tensorflow(nn_ops, ("gelu",), _tensorflow_gelu_applies, tensorflow_gelu)
    for name, value, gradient, module, names in (
        ("silu", _silu, _silu_gradient, nn_impl, ("swish", "silu")),
        ("relu6", _relu6, _relu6_gradient, nn_ops, ("relu6",)),
        ("hard_silu", _hard_silu, _hard_silu_gradient, None, ()),
    ):
        island: Callable[..., Any] = with_compiled_gradient(value, gradient)
        yield _replacement(nn, name, is_worth_an_island, island)
        if module is not None:
            yield from _of_tensorflow(module, names, _has_defaults, _named_as_there(island))


def _replacement(
    owner: Any, name: str, applies: Callable[..., bool], island: Callable[..., Any]
) -> Replacement:
    faster = with_faster_path("activations", vars(owner)[name], applies, island)
    return Replacement(owner, name, faster)


def _of_tensorflow(
    module: Any, names: tuple[str, ...], applies: Callable[..., bool], island: Callable[..., Any]
) -> Iterator[Replacement]:
    """Yield the replacements of one function, the same object in all its places.

    Args:
        module: Where the function is defined, and where pickle finds it.
        names: Its names in `tf.nn`; the first one is that in its module.
        applies: As for `with_faster_path`.
        island: As `faster` there.
    """
    import tensorflow as tf

    faster = _replacement(module, names[0], applies, island).value
    # The ledger would wrap each occurrence by itself.
    shared = without_own_frames(faster)
    yield Replacement(module, names[0], shared)
    for name in names:
        yield Replacement(tf.nn, name, shared)


def _named_as_there(island: Callable[[Any], Any]) -> Callable[..., Any]:
    def call(features: Any) -> Any:
        return island(features)

    return call


def _has_defaults(features: Any, *rest: Any, **named: Any) -> bool:
    return not rest and not named and is_worth_an_island(features)


def _tensorflow_gelu_applies(features: Any, approximate: bool = False, name: Any = None) -> bool:
    return name is None and _gelu_applies(features, approximate)


def _gelu_applies(x: Any, approximate: bool = True) -> bool:
    return isinstance(approximate, bool) and is_worth_an_island(x)


def _gelu(x: Tensor) -> Tensor:
    return x * _normal_cdf(x)


def _gelu_gradient(x: Tensor, upstream: Tensor) -> Tensor:
    import tensorflow as tf

    density = tf.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return upstream * (_normal_cdf(x) + x * density)


def _normal_cdf(x: Tensor) -> Tensor:
    import tensorflow as tf

    return 0.5 * tf.math.erfc(-x * math.sqrt(0.5))


def _tanh_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1.0 + _gelu_tanh(x))


def _tanh_gelu_gradient(x: Tensor, upstream: Tensor) -> Tensor:
    tanh = _gelu_tanh(x)
    slope = _TANH_SCALE * (1.0 + 3 * _TANH_CUBIC * x * x)
    return upstream * 0.5 * (1.0 + tanh + x * (1.0 - tanh * tanh) * slope)


def _gelu_tanh(x: Tensor) -> Tensor:
    import tensorflow as tf

    return tf.tanh(_TANH_SCALE * (x + _TANH_CUBIC * x * x * x))


def _silu(x: Tensor) -> Tensor:
    import tensorflow as tf

    return x * tf.sigmoid(x)


def _silu_gradient(x: Tensor, upstream: Tensor) -> Tensor:
    import tensorflow as tf

    sigmoid = tf.sigmoid(x)
    return upstream * sigmoid * (1.0 + x * (1.0 - sigmoid))


def _relu6(x: Tensor) -> Tensor:
    import tensorflow as tf

    return tf.minimum(tf.maximum(x, 0.0), 6.0)


def _relu6_gradient(x: Tensor, upstream: Tensor) -> Tensor:
    import tensorflow as tf

    # A factor, not a choice: as in Keras, NaN and infinity times 0 stay visible.
    return upstream * tf.where((x > 0.0) & (x < 6.0), 1.0, 0.0)


def _hard_silu(x: Tensor) -> Tensor:
    return x * (_relu6(x + 3.0) / 6.0)


def _hard_silu_gradient(x: Tensor, upstream: Tensor) -> Tensor:
    return upstream * (_relu6(x + 3.0) / 6.0) + _relu6_gradient(x + 3.0, upstream * x / 6.0)
