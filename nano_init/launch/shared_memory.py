"""Shared memory for the workers of a job on one host; the launcher creates it.

It has no name (memfd_create(2)). The kernel frees it when the last process that maps it ends, and
the size of /dev/shm does not limit it.
"""

from __future__ import annotations

import os

from nano_init.protocol.shared_memory_layout import layout_of

__all__ = ["create_shared_memory"]


def create_shared_memory(workers: int) -> int:
    """Create the memory for the workers of one attempt.

    Args:
        workers: the number of workers, all on this host.

    Returns:
        Its descriptor; -1 if the system does not support it.
    """
    import ctypes
    import mmap

    layout = layout_of(workers)
    try:
        start_semaphore = ctypes.CDLL(None).sem_init
        fd = os.memfd_create("nano-run")
    except (AttributeError, OSError):  # not Linux, an old C library, or a sandbox that forbids it
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
