"""The patch for Keras 2, which TensorFlow uses where TF_USE_LEGACY_KERAS is set (`tf_keras`).

Its default policy is a plain module global. It takes a Sequential's input dtype from the data, sums
repeated ids itself, and passes layers' outputs to regularizers unchanged. Like Keras 3, it returns
bfloat16 from a model and casts floating inputs.
"""

from __future__ import annotations

import functools

from nano_init.keras_patch.ledger import Replacement
from nano_init.keras_patch.precision.boundary import float32_output, of_float32_predictions
from nano_init.keras_patch.precision.casting import remember_autocast
from nano_init.keras_patch.precision.float32_fallback import falling_back
from nano_init.keras_patch.precision.kept_layers import after_init
from nano_init.keras_patch.precision.layer_policies import legacy_policies
from nano_init.keras_patch.precision.nest import map_leaves
from nano_init.keras_patch.precision.own_policy import (
    OwnName,
    is_own,
    legacy_policy_file_replacements,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Layer

__all__ = ["legacy_replacements"]


def legacy_replacements(precision: str) -> Iterator[Replacement]:
    """Yield all replacements in `tf_keras` for a precision.

    Args:
        precision: `"float32"` or `"mixed_bfloat16"`.
    """
    if precision == "float32":
        return
    from tf_keras.src.engine.base_layer import Layer
    from tf_keras.src.losses import Loss
    from tf_keras.src.mixed_precision import policy

    chosen = policy.Policy(OwnName(precision))
    yield Replacement(policy, "_global_policy", chosen, is_yielding=True)
    call = _wrap_layer_call(falling_back(vars(Layer)["__call__"], legacy_policies()))
    yield Replacement(Layer, "__call__", call)
    cast = "_cast_single_input"
    yield Replacement(Layer, cast, _wrap_cast_input(vars(Layer)[cast]))
    yield Replacement(Loss, "__call__", of_float32_predictions(vars(Loss)["__call__"]))
    yield from _preprocessing_replacements()
    yield from legacy_policy_file_replacements()


def _preprocessing_replacements() -> Iterator[Replacement]:
    # Raw data needs its full precision; the next layer casts the float32 results itself.
    from tf_keras import layers

    for owner in (
        layers.CategoryEncoding,
        layers.Discretization,
        layers.Normalization,
        layers.Rescaling,
    ):
        init = after_init(vars(owner)["__init__"], _widen)
        yield Replacement(owner, "__init__", init)


def _widen(layer: Layer) -> None:
    if is_own(layer._dtype_policy):
        layer._set_dtype_policy("float32")


def _wrap_layer_call(call: Callable[..., Any]) -> Callable[..., Any]:
    from tf_keras.src.engine.base_layer_utils import call_context

    @functools.wraps(call)
    def call_with_float32_outputs(self: Layer, *args: Any, **kwargs: Any) -> Any:
        is_nested = call_context().in_call
        outputs = call(self, *args, **kwargs)
        if is_nested or self.variable_dtype == "bfloat16":
            return outputs
        return map_leaves(float32_output, outputs)

    return call_with_float32_outputs


def _wrap_cast_input(cast: Callable[..., Any]) -> Callable[..., Any]:
    import tensorflow as tf

    @functools.wraps(cast)
    def cast_and_remember(self: Layer, x: Any) -> Any:
        converted = cast(self, x)
        is_cast = converted is not x and tf.is_tensor(converted)
        return remember_autocast(converted, x) if is_cast else converted

    return cast_and_remember
