"""Layers that cannot compute in bfloat16 on this version stay in float32.

Found by running every layer of Keras in both precisions, forward and backward, on TensorFlow
2.16 to 2.21 and Keras 3.6 to 3.15, with and without oneDNN. Image layers before the first weight
cost little in float32, so nothing is printed for them; the others get one line.
"""

from __future__ import annotations

from nano_init.frozen import frozen
from nano_init.keras_patch.ledger import Replacement
from nano_init.keras_patch.notice import warn
from nano_init.keras_patch.precision.kept_layers import after_init

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Layer

__all__ = ["RULES", "Rule", "rules_for", "unable_layer_replacements"]


def _always(_layer: Layer) -> bool:
    return True


def _is_stateful(layer: Layer) -> bool:
    return bool(layer.stateful)


def _scales_and_translates(layer: Layer) -> bool:
    # TensorFlow has no bfloat16 kernel for the gradient of ScaleAndTranslate, and silently returns
    # none for bicubic resizing (tensorflow/python/ops/image_grad.py).
    return layer.interpolation not in ("nearest", "bilinear") or getattr(layer, "antialias", False)


def _interpolates(layer: Layer) -> bool:
    return bool(layer.interpolation != "nearest")


def _crops(layer: Layer) -> bool:
    # XLA mixes dtypes if the gradient of a slice with computed bounds is bfloat16.
    return bool(layer.crop_to_aspect_ratio)


@frozen
class Rule:
    """The condition under which a class of layers cannot compute in bfloat16.

    Args:
        class_name: the class in `keras.layers`; versions without it are skipped.
        is_unable: called after the layer's constructor.
        cause: what is missing, for the warning; "" if no warning is needed.
        before: the first version of Keras, major and minor, that can; by default none can.
    """

    class_name: str
    is_unable: Callable[[Layer], bool]
    cause: str = ""
    before: tuple[int, int] = (99, 0)


RULES = (
    Rule("STFTSpectrogram", _always, "its Fourier transform does not accept bfloat16"),
    Rule("UpSampling2D", _scales_and_translates, "this resizing has no gradient in bfloat16"),
    Rule("UpSampling2D", _interpolates, "this Keras refuses bfloat16 for resizing", (3, 7)),
    Rule("RNN", _is_stateful, "this Keras keeps the state in float32", (3, 8)),
    # Their gradient by the image fails, which matters if a layer with weights precedes them.
    Rule("Resizing", _scales_and_translates),
    Rule("Resizing", _interpolates, "", (3, 7)),
    Rule("Resizing", _crops),
    Rule("RandomCrop", _always),
    Rule("RandomPerspective", _always),
    Rule("RandomRotation", _always),
    Rule("RandomShear", _always),
    Rule("RandomTranslation", _always),
    Rule("RandomZoom", _always),
)


def rules_for(version: str) -> dict[str, list[Rule]]:
    """Return the rules for a version of Keras, by class.

    Args:
        version: Keras's version, such as "3.15.1".
    """
    major, minor = version.split(".")[:2]
    found: dict[str, list[Rule]] = {}
    for rule in RULES:
        if (int(major), int(minor)) < rule.before:
            found.setdefault(rule.class_name, []).append(rule)
    return found


def unable_layer_replacements() -> Iterator[Replacement]:
    """Yield the replacements that make such layers float32 in their constructors."""
    import keras

    for class_name, rules in rules_for(keras.__version__).items():
        owner = getattr(keras.layers, class_name, None)
        if owner is not None:
            init = after_init(vars(owner)["__init__"], _Keeper(rules, keras.DTypePolicy("float32")))
            yield Replacement(owner, "__init__", init)


@frozen
class _Keeper:
    """Makes a layer float32, and its cells, if a rule says so."""

    rules: list[Rule]
    policy: Any

    def __call__(self, layer: Layer) -> None:
        if layer.dtype_policy.name != "mixed_bfloat16":
            return
        rule = next((rule for rule in self.rules if rule.is_unable(layer)), None)
        if rule is None:
            return
        for inner in layer._flatten_layers():
            inner._dtype_policy = self.policy
        if rule.cause:
            name = f"{type(layer).__name__} {layer.name!r}"
            warn(f"{name} stays in float32: {rule.cause}")
