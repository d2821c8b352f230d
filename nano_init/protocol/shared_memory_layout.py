"""Where what lies in the memory that the workers of a job on one host share. Pure."""

from __future__ import annotations

from nano_init.frozen import frozen

__all__ = ["SharedMemoryLayout", "layout_of"]

_LINE = 64  # bytes; no two workers write to the same cache line
_PAGE = 4096
_CHUNK = 512 << 10  # what is copied in one go stays in a core's own cache
_SLOTS = 64 << 20  # the most memory that all slots take together
_RECORD = 16


@frozen
class SharedMemoryLayout:
    """Where what lies in the memory. Everything is there twice, for even and odd barriers.

    Args:
        workers: how many share it.
        chunk: bytes that a worker can hand over at once.
        records: how many saves of each worker are kept.
    """

    workers: int
    chunk: int
    records: int = 64

    def semaphore(self, worker: int, parity: int) -> int:
        """Return where the semaphore is that a worker waits at."""
        return _LINE * (2 * worker + parity)

    @property
    def notices(self) -> int:
        """Return where the workers' notices begin, a line each."""
        return 2 * _LINE * self.workers

    @property
    def saves(self) -> int:
        """Return where the records of the workers' saves begin."""
        return 3 * _LINE * self.workers

    def slot(self, worker: int, parity: int) -> int:
        """Return where a worker puts what it hands over."""
        return self._slots + self.chunk * (self.workers * parity + worker)

    @property
    def sums(self) -> int:
        """Return where sums are put that each worker has computed a part of."""
        return self.slot(0, 2)

    @property
    def size(self) -> int:
        """Return the number of bytes of all of it."""
        return self.sums + self.chunk

    @property
    def _slots(self) -> int:
        end = self.saves + _RECORD * self.records * self.workers
        return -(-end // _PAGE) * _PAGE


def layout_of(workers: int) -> SharedMemoryLayout:
    """Return the layout for a number of workers."""
    chunk = min(_CHUNK, _SLOTS // (2 * workers))
    return SharedMemoryLayout(workers, max(chunk // _PAGE, 1) * _PAGE)
