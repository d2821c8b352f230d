"""The signature of a model in a tuned choice: the shapes of its trained variables. Pure."""

from __future__ import annotations

import json
from binascii import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

__all__ = ["digest_shapes", "digest_signature", "shapes_of"]


def shapes_of(variables: Iterable[Any]) -> list[list[int]]:
    """Return the shapes of an optimizer's variables."""
    return [[int(size) for size in variable.shape] for variable in variables]


def digest_signature(signature: str) -> str:
    """Return a signature that is short enough for an environment variable.

    Args:
        signature: for each optimizer the shapes of its variables, as JSON; "" if unknown.

    Returns:
        A comma-separated list with a hexadecimal CRC-32 for each optimizer.
    """
    shapes = json.loads(signature) if signature else []
    return ",".join(digest_shapes(each) for each in shapes if each)


def digest_shapes(shapes: Sequence[Sequence[int]]) -> str:
    """Return the digest of one optimizer's shapes, as in `digest_signature`."""
    return f"{crc32(json.dumps(shapes).encode()):08x}"
