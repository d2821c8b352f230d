"""A layer that fails in bfloat16 runs in float32 from then on.

Autocasting does not cover everything, such as a library that reads dtypes itself, a table with
float32 keys, or a kernel that TensorFlow lacks. The innermost layer whose call, build or output
inference raises such an error becomes float32, including its sublayers, and is called again. If it
fails in float32 too, the script gets the original error, and the layer's policy is restored.
"""

from __future__ import annotations

import functools
import re

from nano_init.frozen import frozen
from nano_init.keras_patch.notice import say_once
from nano_init.keras_patch.precision.autocast import is_about_dtypes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from nano_init.keras_patch.tensor_types import Layer

__all__ = ["LayerPolicies", "falling_back"]


# The phrases of Keras 3 and tf_keras that precede the arguments of a layer's call.
_ARGUMENTS = re.compile("arguments received by", re.IGNORECASE)


@frozen
class LayerPolicies:
    """How one Keras package reads and writes the dtype policies of a layer.

    Args:
        flatten: returns a layer and its sublayers.
        is_mixed: says whether a layer computes in bfloat16 on float32 variables.
        widen: makes a layer float32, and returns what it replaced.
        restore: puts back what `widen` returned.
    """

    flatten: Callable[[Layer], list[Layer]]
    is_mixed: Callable[[Layer], bool]
    widen: Callable[[Layer], Any]
    restore: Callable[[Layer, Any], None]


def falling_back(call: Callable[..., Any], policies: LayerPolicies) -> Callable[..., Any]:
    """Return a layer's `__call__` that falls back to float32 where bfloat16 fails.

    Args:
        call: The `__call__` of the package's base layer.
        policies: The package's way to change a layer's policy.
    """

    @functools.wraps(call)
    def call_or_fall_back(self: Layer, *args: Any, **kwargs: Any) -> Any:
        # Without `super().__init__()` a layer has neither: Keras reports that.
        before = None if getattr(self, "built", True) else _State(self)
        losses = len(getattr(self, "_losses", ()))
        try:
            return call(self, *args, **kwargs)
        except Exception as error:
            failure = _explain(error)
            if failure is None or not policies.is_mixed(self):
                raise
        # Outside of the handler, so that an error in float32 has no other error as its context.
        if before is not None and not self.built:
            before.restore(self)
        del self._losses[losses:]
        changed = _widen(self, policies)
        try:
            outputs = call(self, *args, **kwargs)
        except BaseException:
            for layer, replaced in changed:
                policies.restore(layer, replaced)
            raise
        say_once(
            f"layer {self.name!r} ({type(self).__name__}) runs in float32, because it fails in "
            f"bfloat16: {failure}"
        )
        return outputs

    return call_or_fall_back


def _widen(layer: Layer, policies: LayerPolicies) -> list[tuple[Layer, Any]]:
    mixed = [inner for inner in policies.flatten(layer) if policies.is_mixed(inner)]
    return [(inner, policies.widen(inner)) for inner in mixed]


def _explain(error: Exception) -> str | None:
    """Return the line of an error that is about bfloat16, or None for any other error."""
    import tensorflow as tf

    seen: BaseException | None = error
    for _ in range(8):
        if isinstance(seen, (MemoryError, tf.errors.ResourceExhaustedError)):
            return None
        # Keras appends the arguments, which name bfloat16 whatever the error is.
        text = _ARGUMENTS.split(str(seen), 1)[0]
        if isinstance(seen, Exception) and is_about_dtypes(text):
            return _line_about_dtypes(text)
        seen = seen.__cause__ or seen.__context__ if seen is not None else None
        if seen is None:
            return None
    return None


def _line_about_dtypes(text: str) -> str:
    plain = text.replace("\x1b[1m", "").replace("\x1b[0m", "")
    line = next((line for line in plain.splitlines() if is_about_dtypes(line)), plain)
    line = " ".join(line.split())
    return line if len(line) <= 200 else f"{line[:200]} ..."


class _State:
    """The state of a layer before it is built, so that a failed build can be undone."""

    def __init__(self, layer: Layer) -> None:
        self._attributes = dict(vars(layer))
        self._contents = {
            name: value.copy() for name, value in self._attributes.items() if _is_container(value)
        }
        tracker = self._attributes.get("_tracker")
        self._stored = {n: set(ids) for n, ids in getattr(tracker, "stored_ids", {}).items()}

    def restore(self, layer: Layer) -> None:
        attributes = vars(layer)
        attributes.clear()
        attributes.update(self._attributes)
        for name, content in self._contents.items():
            value = attributes[name]
            value.clear()
            (value.extend if isinstance(value, list) else value.update)(content)
        tracker = attributes.get("_tracker")
        if tracker is not None:
            tracker.stored_ids = self._stored


def _is_container(value: Any) -> bool:
    # Keras's tracked collections are skipped: only the tracker may add to them.
    return type(value) in (list, dict, set)
