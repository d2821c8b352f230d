"""Split concatenated arrays into chunks. Pure."""

from __future__ import annotations

import functools
from zlib import crc32

__all__ = ["FIRST_KIND", "Pieces", "divide"]

Pieces = tuple[tuple[int, int, int, int], ...]

# Identifiers of lengths start here; smaller numbers are free for other kinds.
FIRST_KIND = 16


@functools.lru_cache(maxsize=256)
def divide(lengths: tuple[int, ...], chunk: int) -> tuple[tuple[Pieces, ...], int]:
    """Split concatenated arrays into chunks.

    Args:
        lengths: The arrays' lengths.
        chunk: The maximum number of elements in a chunk.

    Returns:
        The chunks, each a list of pieces: the index of an array, where the piece begins and ends
        in it, and where it begins in the chunk. And a number that identifies these lengths.
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
