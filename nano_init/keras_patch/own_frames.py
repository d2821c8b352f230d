"""Remove nano-init's frames from tracebacks, as Keras removes its own.

`frame_filters` covers the places where Keras and TensorFlow filter tracebacks. Elsewhere every
function that the ledger installs drops nano-init's frames itself.
`keras.config.disable_traceback_filtering()` and `tf.debugging.disable_traceback_filtering()`
show all frames.
"""

from __future__ import annotations

import functools
import os
import sys
from types import FunctionType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

__all__ = ["OWN_PATH", "drop_own_frames", "filter_modules", "leaves_no_frame", "without_own_frames"]

# With the separator, because a folder `nano_init_examples` next to it belongs to the user.
OWN_PATH = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")

_FILTERS = (
    "keras.src.utils.traceback_utils",
    "tf_keras.src.utils.traceback_utils",
    "tensorflow.python.util.traceback_utils",
)
_MARK = "_nano_init_leaves_no_frame"


def drop_own_frames(error: BaseException) -> None:
    """Remove nano-init's frames from the traceback of an error that is about to be re-raised.

    Call it in an `except` block that ends in a bare `raise`, which adds no frame (since Python
    3.11; in earlier versions the frame of that block remains).

    Args:
        error: The error that was caught.
    """
    if not _is_filtering():
        return
    error.__traceback__ = _next_of_others(error.__traceback__)
    entry = error.__traceback__
    while entry is not None:
        entry.tb_next = following = _next_of_others(entry.tb_next)
        entry = following


def without_own_frames(value: Any) -> Any:
    """Return a function whose errors show no frames of nano-init; return other values unchanged.

    Args:
        value: A function of nano-init that calls code of the user or of Keras, or a static method
            or class method.
    """
    if isinstance(value, (staticmethod, classmethod)):
        return type(value)(without_own_frames(value.__func__))
    if not isinstance(value, FunctionType) or not _shows_frames(value):
        return value

    @functools.wraps(value)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return value(*args, **kwargs)
        except BaseException as error:
            drop_own_frames(error)
            raise

    return leaves_no_frame(call)


def leaves_no_frame(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function that calls `drop_own_frames` itself, because its call overhead matters."""
    # The code object, since `functools.wraps` copies attributes to the next wrapper.
    setattr(function, _MARK, function.__code__)
    return function


def _shows_frames(function: FunctionType) -> bool:
    is_own = function.__code__.co_filename.startswith(OWN_PATH)
    return is_own and vars(function).get(_MARK) is not function.__code__


def _next_of_others(entry: TracebackType | None) -> TracebackType | None:
    while entry is not None and entry.tb_frame.f_code.co_filename.startswith(OWN_PATH):
        entry = entry.tb_next
    return entry


def _is_filtering() -> bool:
    # tf_keras follows TensorFlow's switch; a partially imported module has none yet.
    switches = (getattr(m, "is_traceback_filtering_enabled", None) for m in filter_modules())
    return all(is_enabled() for is_enabled in switches if is_enabled is not None)


def filter_modules() -> list[Any]:
    """Return the imported modules of Keras and TensorFlow that filter tracebacks."""
    return [sys.modules[name] for name in _FILTERS if name in sys.modules]
