"""A barrier for processes: each posts the semaphores of all others, and waits for their posts.

POSIX semaphores (sem_overview(7)) are memory barriers too: what a worker writes before it posts is
visible to a worker that has waited for it, on every architecture.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable

    from nano_init.protocol.shared_memory_layout import SharedMemoryLayout as Layout

__all__ = ["ProcessBarrier"]

# About the latency of a wake-up (30 to 60 us); after that sleeping costs no more than spinning.
_TRIES = 150
_YIELD = 25  # yield the core to other threads after this many tries
_SLICE_SECONDS = 0.1


class _Time(ctypes.Structure):
    """`struct timespec`."""

    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class ProcessBarrier:
    """One worker's semaphores, and those of the others.

    Args:
        memory: The shared memory.
        layout: Where the semaphores are in it.
        index: This worker's number.
        find_lost: Called every 0.1 s while waiting; an error that it returns is raised.
    """

    def __init__(
        self,
        memory: mmap.mmap,
        layout: Layout,
        index: int,
        find_lost: Callable[[], Exception | None],
    ) -> None:
        base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self._memory = memory  # which must stay mapped
        self._find_lost = find_lost

        def semaphore(worker: int, parity: int) -> ctypes.c_void_p:
            return ctypes.c_void_p(base + layout.semaphore(worker, parity))

        others = [worker for worker in range(layout.workers) if worker != index]
        self._own = [semaphore(index, parity) for parity in (0, 1)]
        self._others = [[semaphore(worker, parity) for worker in others] for parity in (0, 1)]
        # Keeping the GIL costs less than releasing it for less than a microsecond.
        brief = ctypes.PyDLL(None)
        self._post, self._try = brief.sem_post, brief.sem_trywait
        self._timed_wait = ctypes.CDLL(None, use_errno=True).sem_timedwait

    def wait(self, parity: int) -> None:
        """Wait until every worker has reached this barrier.

        Args:
            parity: Alternately 0 and 1, so that a worker that is early for the next barrier
                posts a different semaphore than one that is late for this barrier.
        """
        for semaphore in self._others[parity]:
            self._post(semaphore)
        for _ in self._others[parity]:
            self._wait_for_post(self._own[parity])

    def _wait_for_post(self, semaphore: ctypes.c_void_p) -> None:
        for number in range(_TRIES):
            if self._try(semaphore) == 0:
                return
            if number % _YIELD == 0:
                os.sched_yield()
        lost: Exception | None = None
        while True:
            end = time.time() + _SLICE_SECONDS
            until = _Time(int(end), int(end % 1 * 1e9))
            if self._timed_wait(semaphore, ctypes.byref(until)) == 0:
                return
            if ctypes.get_errno() not in (errno.ETIMEDOUT, errno.EINTR):
                raise OSError(ctypes.get_errno(), "sem_timedwait failed")
            # A worker that ended after this barrier has posted for it. So a worker counts as lost
            # only if its post is still missing a while later.
            if lost is not None:
                raise lost
            lost = self._find_lost()
