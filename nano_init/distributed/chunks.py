"""Arrays divided into chunks, one array behind the other. Pure."""

from __future__ import annotations

import functools
from zlib import crc32

__all__ = ["FIRST_KIND", "Pieces", "divide"]

Pieces = tuple[tuple[int, int, int, int], ...]

# The numbers that identify lengths begin here; smaller ones are free for other things.
FIRST_KIND = 16


@functools.lru_cache(maxsize=256)
def divide(lengths: tuple[int, ...], chunk: int) -> tuple[tuple[Pieces, ...], int]:
    """Divide arrays, one behind the other, into chunks.

    Args:
        lengths: The arrays' lengths.
        chunk: The most numbers in one chunk.

    Returns:
        The chunks, each as pieces: an array's number, where in it the piece begins and ends,
        and where in the chunk it begins. And a number that identifies these lengths.
    """
    chunks: list[list[tuple[int, int, int, int]]] = [[]]
    used = 0
    for number, length in enumerate(lengths):
        start = 0
        while start < length:
            if used == chunk:
                chunks.append([])
                used = 0
            stop = min(length, start + chunk - used)
            chunks[-1].append((number, start, stop, used))
            used += stop - start
            start = stop
    return tuple(map(tuple, chunks)), FIRST_KIND + crc32(repr(lengths).encode())
