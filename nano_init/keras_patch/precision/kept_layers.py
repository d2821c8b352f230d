"""Layers that stay in float32 although the patch makes new layers mixed_bfloat16.

A layer's name and class are known when `Layer.__init__` ends (keras/src/layers/layer.py), before a
subclass reads the policy to create its own sublayers. Sublayers created without its policy, such as
an LSTM's cell or those of a custom layer, are converted when the layer is built.
"""

from __future__ import annotations

import functools
import weakref

from nano_init.keras_patch.ledger import Replacement
from nano_init.protocol.patch_options import parse_keep_float32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Layer

__all__ = [
    "after_init",
    "kept_layer_replacements",
    "legacy_kept_layer_replacements",
    "parse_keep_float32",
]


def kept_layer_replacements(patterns: tuple[str, ...]) -> Iterator[Replacement]:
    """Yield the replacements that keep layers of Keras 3 in float32; none without patterns.

    Args:
        patterns: As `parse_keep_float32` returns them.
    """
    if not patterns:
        return
    from keras import DTypePolicy
    from keras.src.layers.layer import Layer

    policy = DTypePolicy("float32")

    def widen(layer: Layer) -> None:
        layer._dtype_policy = policy

    yield from _replacements(Layer, patterns, widen)


def legacy_kept_layer_replacements(patterns: tuple[str, ...]) -> Iterator[Replacement]:
    """Yield the replacements that keep layers of `tf_keras` in float32; none without patterns.

    Args:
        patterns: As `parse_keep_float32` returns them.
    """
    if not patterns:
        return
    from tf_keras.src.engine.base_layer import Layer

    yield from _replacements(Layer, patterns, lambda layer: layer._set_dtype_policy("float32"))


def after_init(init: Callable[..., None], act: Callable[[Layer], None]) -> Callable[..., None]:
    """Return a constructor that calls a function with each new layer without its own `dtype`.

    Args:
        init: The `__init__` of a class of layers.
        act: Called with the layer.
    """
    from inspect import signature

    @functools.wraps(init)
    def init_then_act(self: Layer, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if kwargs.get("dtype") is None:
            act(self)

    # `Operation.__new__` reads it without following `__wrapped__` (keras/src/ops/operation.py).
    init_then_act.__signature__ = signature(init)  # type: ignore[attr-defined]
    return init_then_act


def _replacements(
    base: Any, patterns: tuple[str, ...], widen: Callable[[Layer], None]
) -> Iterator[Replacement]:
    waiting: weakref.WeakSet[Layer] = weakref.WeakSet()

    def keep(layer: Layer) -> None:
        if _is_mixed(layer) and _is_named(layer, patterns):
            widen(layer)
            waiting.add(layer)

    def keep_inner(layer: Layer) -> None:
        for inner in layer._flatten_layers(include_self=False):
            if _is_mixed(inner):
                widen(inner)

    yield Replacement(base, "__init__", after_init(vars(base)["__init__"], keep))
    name = "_maybe_build"
    yield Replacement(base, name, _wrap_maybe_build(vars(base)[name], waiting, keep_inner))


def _is_named(layer: Layer, patterns: tuple[str, ...]) -> bool:
    from fnmatch import fnmatchcase

    names = (layer.name, type(layer).__name__)
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def _is_mixed(layer: Layer) -> bool:
    return getattr(layer._dtype_policy, "name", None) == "mixed_bfloat16"


def _wrap_maybe_build(
    build: Callable[..., Any], waiting: weakref.WeakSet[Layer], keep: Callable[[Layer], None]
) -> Callable[..., Any]:
    @functools.wraps(build)
    def build_with_inner_layers(self: Layer, *args: Any) -> Any:
        if self not in waiting:
            return build(self, *args)
        keep(self)
        result = build(self, *args)
        # The sublayers that its own `build` created.
        keep(self)
        waiting.discard(self)
        return result

    return build_with_inner_layers
