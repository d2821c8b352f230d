"""A method of Keras with a faster path, and Keras's own code as the fallback."""

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
    """Return a method that takes the faster path where it applies, otherwise Keras's own code.

    A path that raises is disabled permanently, with one warning that names it, and Keras's own
    code runs instead. If that raises too, the path was not the cause, and the error passes through.

    Args:
        name: The path's name, as in `NANO_INIT_DISABLE`.
        original: Keras's own method.
        applies: Returns whether the path equals the method for the arguments; takes all of them.
        faster: The path; takes all arguments. It must not change a variable before it can fail.
    """
    failed: list[Exception] = []

    @functools.wraps(original)
    def method(*args: Any, **kwargs: Any) -> Any:
        if failed:
            return original(*args, **kwargs)
        failure = None
        try:
            if applies(*args, **kwargs):
                return faster(*args, **kwargs)
        # An error here must not break the user's training.
        except Exception as error:  # noqa: BLE001
            failure = error
        # Outside of the handler, so that Keras's own error has no other error as its context.
        result = original(*args, **kwargs)
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
