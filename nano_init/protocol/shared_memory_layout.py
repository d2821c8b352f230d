"""The layout of the memory that the workers of a job on one host share. Pure."""

from __future__ import annotations

from nano_init.frozen import frozen

__all__ = ["SharedMemoryLayout", "layout_of"]

_LINE = 64  # bytes; no two workers write to the same cache line
_PAGE = 4096
_CHUNK = 512 << 10  # one copy fits into a core's private cache
_SLOTS = 64 << 20  # the maximum total size of all slots
_RECORD = 16


@frozen
class SharedMemoryLayout:
    """The layout of the memory. Everything exists twice, for even and odd barriers.

    Args:
        workers: the number of workers that share it.
        chunk: the number of bytes that a worker can pass on at once.
        records: the number of saves that are kept for each worker.
    """

    workers: int
    chunk: int
    records: int = 64

    def semaphore(self, worker: int, parity: int) -> int:
        """Return the offset of the semaphore that a worker waits on."""
        return _LINE * (2 * worker + parity)

    @property
    def notices(self) -> int:
        """Return the offset of the workers' notices, one cache line each."""
        return 2 * _LINE * self.workers

    @property
    def saves(self) -> int:
        """Return the offset of the records of the workers' saves."""
        return 3 * _LINE * self.workers

    def slot(self, worker: int, parity: int) -> int:
        """Return the offset of a worker's input slot."""
        return self._slots + self.chunk * (self.workers * parity + worker)

    @property
    def sums(self) -> int:
        """Return the offset of the sums, of which each worker computes a part."""
        return self.slot(0, 2)

    @property
    def size(self) -> int:
        """Return the total size in bytes."""
        return self.sums + self.chunk

    @property
    def _slots(self) -> int:
        end = self.saves + _RECORD * self.records * self.workers
        return -(-end // _PAGE) * _PAGE


def layout_of(workers: int) -> SharedMemoryLayout:
    """Return the layout for a number of workers."""
    chunk = min(_CHUNK, _SLOTS // (2 * workers))
    return SharedMemoryLayout(workers, max(chunk // _PAGE, 1) * _PAGE)
