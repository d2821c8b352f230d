"""How many training steps run between two returns to Python."""

from __future__ import annotations

from nano_init.errors import UsageError

__all__ = ["parse_steps_per_execution"]

_MOST = 1_000_000


def parse_steps_per_execution(value: str | int | None) -> int | str | None:
    """Return a number of steps or "auto"; None, and 1, which is Keras's own, are None.

    Args:
        value: what the user gave.

    Raises:
        UsageError: it is neither.
    """
    if value is None or value == "auto":
        return value
    is_number = isinstance(value, int) and not isinstance(value, bool)
    text = str(value) if is_number else value
    if not isinstance(text, str) or not (text.isascii() and text.isdigit()):
        raise UsageError(f"steps per execution is {value!r}; give a whole number from 1, or auto")
    if not 1 <= int(text) <= _MOST:
        raise UsageError(f"steps per execution is {value!r}; give a number from 1 to {_MOST}")
    return None if int(text) == 1 else int(text)
