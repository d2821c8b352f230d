"""Reusable memory for the data that a step receives.

Fresh memory causes a page fault per page: for 4 MB of sums that took longer than the summation.
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

_ALIGNMENT = 64  # TensorFlow uses an array's memory in place if it has this alignment
_MOST_SIZES = 16
_MOST_OF_A_SIZE = 3  # TensorFlow may still hold one, and a variable another


class Buffers:
    """A pool of memory for arrays, which reuses memory that is no longer referenced."""

    def __init__(self) -> None:
        self._kept: dict[int, list[NDArray[np.uint8]]] = {}
        self._unused = _count_references([np.empty(1, np.uint8)], 0)

    def take(self, lengths: Sequence[int], dtype: Any) -> list[NDArray[Any]]:
        """Return uninitialized arrays.

        Args:
            lengths: The arrays' lengths.
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
    """Return the number of references; each view of an array counts."""
    return sys.getrefcount(kept[number])
