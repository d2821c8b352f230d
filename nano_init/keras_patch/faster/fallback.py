"""A method of Keras with a faster path before it, and Keras's own code behind it."""

from __future__ import annotations

import functools

from nano_init.keras_patch.notice import warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["with_faster_path"]


def with_faster_path(
    name: str,
    original: Callable[..., Any],
    applies: Callable[..., bool],
    faster: Callable[..., Any],
) -> Callable[..., Any]:
    """Return a method that takes the faster path where it applies, else Keras's own code.

    A path that raises is left for good, with one warning that names it; Keras's own code then
    answers. Where that raises too, the mistake was not the path's: its error passes through.

    Args:
        name: The path's name, as in `NANO_INIT_DISABLE`.
        original: Keras's own method.
        applies: Says whether the path equals the method for these arguments; takes them all.
        faster: The path; takes them all. It must not change a variable before it can fail.
    """
    failed: list[Exception] = []

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if failed:
            return original(self, *args, **kwargs)
        failure = None
        try:
            if applies(self, *args, **kwargs):
                return faster(self, *args, **kwargs)
        # Whatever breaks here must not break the user's training.
        except Exception as error:  # noqa: BLE001
            failure = error
        # Outside of the handler: an error of Keras's own has no other error as its context.
        result = original(self, *args, **kwargs)
        if failure is not None:
            failed.append(failure)
            _warn(name, failure)
        return result

    return method


def _warn(name: str, error: Exception) -> None:
    cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
    warn(
        f"nano-init: the faster path {name!r} failed ({cause}); Keras's own code runs instead. "
        f"NANO_INIT_DISABLE={name} switches it off"
    )
