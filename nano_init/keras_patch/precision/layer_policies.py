"""How the two Keras packages read and write a layer's dtype policy."""

from __future__ import annotations

from nano_init.keras_patch.precision.float32_fallback import LayerPolicies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nano_init.keras_patch.tensor_types import Layer

__all__ = ["keras_policies", "legacy_policies"]


def keras_policies() -> LayerPolicies:
    """Return how to change the policies of Keras 3's layers."""
    from keras import DTypePolicy

    float32 = DTypePolicy("float32")

    def widen(layer: Layer) -> Any:
        replaced, layer._dtype_policy = layer._dtype_policy, float32
        return replaced

    def restore(layer: Layer, replaced: Any) -> None:
        layer._dtype_policy = replaced

    return LayerPolicies(
        flatten=lambda layer: layer._flatten_layers(),
        is_mixed=_is_mixed,
        widen=widen,
        restore=restore,
    )


def legacy_policies() -> LayerPolicies:
    """Return how to change the policies of tf_keras's layers."""

    def widen(layer: Layer) -> Any:
        replaced = layer._dtype_policy
        layer._set_dtype_policy("float32")
        return replaced

    return LayerPolicies(
        flatten=lambda layer: list(layer._flatten_layers()),
        is_mixed=_is_mixed,
        widen=widen,
        restore=lambda layer, replaced: layer._set_dtype_policy(replaced),
    )


def _is_mixed(layer: Layer) -> bool:
    return bool(layer.compute_dtype == "bfloat16" and layer.variable_dtype == "float32")
