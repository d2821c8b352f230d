"""Memory for what a step receives, used again by a later step.

Fresh memory comes a page at a time, with a fault each: for 4 MB of sums that took longer than
to add them up.
"""

from __future__ import annotations

import sys

import numpy as np

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

__all__ = ["Buffers"]

_ALIGNMENT = 64  # TensorFlow takes over an array's memory where it starts at a multiple of it
_MOST_SIZES = 16
_MOST_OF_A_SIZE = 3  # one may wait for TensorFlow to let it go, one be kept by a variable


class Buffers:
    """Gives memory for arrays, and takes it again when nothing refers to them any more."""

    def __init__(self) -> None:
        self._kept: dict[int, list[NDArray[np.uint8]]] = {}
        self._unused = _count_references([np.empty(1, np.uint8)], 0)

    def take(self, lengths: Sequence[int], dtype: Any) -> list[NDArray[Any]]:
        """Return arrays that are not set to anything.

        Args:
            lengths: How many numbers each shall have.
            dtype: Their dtype.
        """
        width = np.dtype(dtype).itemsize
        spaces = [-(-length * width // _ALIGNMENT) * _ALIGNMENT for length in lengths]
        buffer = self._find(sum(spaces) + _ALIGNMENT)
        start = -buffer.ctypes.data % _ALIGNMENT
        arrays = []
        for length, space in zip(lengths, spaces, strict=True):
            arrays.append(buffer[start : start + length * width].view(dtype))
            start += space
        return arrays

    def _find(self, size: int) -> NDArray[np.uint8]:
        if size not in self._kept and len(self._kept) == _MOST_SIZES:
            self._kept.clear()
        kept = self._kept.setdefault(size, [])
        for number in range(len(kept)):
            if _count_references(kept, number) == self._unused:
                return kept[number]
        buffer = np.empty(size, np.uint8)
        if len(kept) < _MOST_OF_A_SIZE:
            kept.append(buffer)
        return buffer


def _count_references(kept: Sequence[NDArray[np.uint8]], number: int) -> int:
    """Return how many references there are; each view of an array is one."""
    return sys.getrefcount(kept[number])
