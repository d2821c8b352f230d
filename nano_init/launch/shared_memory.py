"""Memory that the workers of a job on one host share; the launcher makes it.

It has no name (memfd_create(2)): it goes with the last process that maps it, however that one
ends, and the size of /dev/shm is no bound for it.
"""

from __future__ import annotations

import os

from nano_init.frozen import frozen

__all__ = ["Layout", "create_shared_memory", "layout_of"]

_LINE = 64  # bytes; no two workers write to the same cache line
_PAGE = 4096
_CHUNK = 512 << 10  # what is copied in one go stays in a core's own cache
_SLOTS = 64 << 20  # the most memory that all slots take together
_RECORD = 16


@frozen
class Layout:
    """Where what lies in the memory. Everything is there twice, for even and odd meetings.

    Args:
        workers: how many share it.
        chunk: bytes that a worker can hand over at once.
        records: how many acts of each worker are kept.
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
    def acts(self) -> int:
        """Return where the records of the workers' acts begin."""
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
        end = self.acts + _RECORD * self.records * self.workers
        return -(-end // _PAGE) * _PAGE


def layout_of(workers: int) -> Layout:
    """Return the layout for a number of workers."""
    chunk = min(_CHUNK, _SLOTS // (2 * workers))
    return Layout(workers, max(chunk // _PAGE, 1) * _PAGE)


def create_shared_memory(workers: int) -> int:
    """Make the memory for the workers of one attempt.

    Args:
        workers: how many there are, all on this host.

    Returns:
        A descriptor of it; -1 where this system gives none.
    """
    import ctypes
    import mmap

    layout = layout_of(workers)
    try:
        start_semaphore = ctypes.CDLL(None).sem_init
        fd = os.memfd_create("nano-run")
    except (AttributeError, OSError):  # no Linux, an old C library, or a sandbox that forbids it
        return -1
    try:
        os.ftruncate(fd, layout.size)
        with mmap.mmap(fd, layout.notices) as memory:
            start = ctypes.c_char.from_buffer(memory)
            for worker in range(workers):
                for parity in (0, 1):
                    at = ctypes.addressof(start) + layout.semaphore(worker, parity)
                    start_semaphore(ctypes.c_void_p(at), 1, 0)
            del start
    except OSError:
        os.close(fd)
        return -1
    return fd
