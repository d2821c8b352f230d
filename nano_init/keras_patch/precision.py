"""The precisions that training accepts, by Keras's own names."""

from __future__ import annotations

from nano_init.errors import PrecisionError

__all__ = ["PRECISIONS", "parse_precision"]

PRECISIONS = ("float32", "mixed_bfloat16")

# Variables of 8 significant bits lose every update below about 1/256 of their value.
_UNFIT = {
    "bfloat16": "its variables would be bfloat16, where an update below 1/256 of a weight is lost",
    "float16": "its variables would be float16, where small gradients become zero",
    "mixed_float16": "processors compute float16 slowly and its gradients need loss scaling",
}


def parse_precision(value: object) -> str:
    """Return a precision that is fit for training.

    Args:
        value: One of `PRECISIONS`.

    Raises:
        PrecisionError: The value is another one; the text says why and which are allowed.
    """
    if isinstance(value, str) and value in PRECISIONS:
        return value
    allowed = " or ".join(repr(name) for name in PRECISIONS)
    reason = _UNFIT.get(value) if isinstance(value, str) else None
    if reason:
        raise PrecisionError(f"precision {value!r} is not for training: {reason}; use {allowed}")
    raise PrecisionError(f"precision {value!r} is unknown; use {allowed}")
