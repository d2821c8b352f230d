"""Gradients with respect to an inner output of a model.

A model returns its inner outputs widened to float32, while its next layer uses the bfloat16 tensor.
So a tape finds no path from the loss to the widened tensor. Here it also differentiates by the
bfloat16 tensor, as for `tape.gradient(score, feature_maps)` in Grad-CAM.
"""

from __future__ import annotations

import functools

from nano_init.keras_patch.ledger import Replacement
from nano_init.keras_patch.precision.backward_pass import backward_pass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Tensor

__all__ = ["inner_output_replacements", "remember_inner_output"]

_INNER = "_nano_inner_output"


def remember_inner_output(widened: Tensor, inner: Tensor, *, is_cast: bool) -> None:
    """Record the tensor that a widened output was computed from.

    Args:
        widened: The float32 tensor that leaves a layer or model.
        inner: The bfloat16 tensor inside.
        is_cast: Whether `widened` was cast from `inner`; otherwise it was recomputed from the
            inputs of `inner`.
    """
    setattr(widened, _INNER, (inner, is_cast))


def inner_output_replacements() -> Iterator[Replacement]:
    """Yield the replacements that make a tape differentiate by inner outputs."""
    from tensorflow.python.eager.backprop import GradientTape

    yield Replacement(GradientTape, "gradient", _wrap_gradient(vars(GradientTape)["gradient"]))


def _wrap_gradient(gradient: Callable[..., Any]) -> Callable[..., Any]:
    import tensorflow as tf

    @functools.wraps(gradient)
    def gradient_by_inner(self: Any, target: Any, sources: Any, *args: Any, **kwargs: Any) -> Any:
        flat = tf.nest.flatten(sources)
        inner = [getattr(source, _INNER, None) for source in flat]
        if not any(inner):
            with backward_pass():
                return gradient(self, target, sources, *args, **kwargs)
        unconnected = args[1:] or [kwargs.get("unconnected_gradients")]
        options = {"unconnected_gradients": tf.UnconnectedGradients.NONE}
        if args or "output_gradients" in kwargs:
            options["output_gradients"] = args[0] if args else kwargs["output_gradients"]
        asked = [*flat, *(pair[0] for pair in inner if pair)]
        with backward_pass():
            found = gradient(self, target, asked, **options)
        narrow = iter(found[len(flat) :])
        joined = [
            _joined(wide, next(narrow), is_cast=pair[1]) if pair else wide
            for wide, pair in zip(found[: len(flat)], inner, strict=True)
        ]
        if unconnected[0] in ("zero", tf.UnconnectedGradients.ZERO):
            joined = [
                tf.zeros_like(source) if grad is None else grad
                for source, grad in zip(flat, joined, strict=True)
            ]
        return tf.nest.pack_sequence_as(sources, joined)

    return gradient_by_inner


def _joined(wide: Tensor | None, narrow: Tensor | None, *, is_cast: bool) -> Tensor | None:
    import tensorflow as tf

    if narrow is None:
        return wide
    narrow = tf.cast(narrow, tf.float32)
    # Through the cast the gradient by the inner tensor already includes that by the widened one.
    return narrow if is_cast or wide is None else wide + narrow
