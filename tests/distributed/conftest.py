"""Workers that share memory; each worker is a thread here."""

from __future__ import annotations

import os

import pytest

from nano_init.launch.shared_memory import create_shared_memory


@pytest.fixture(scope="session")
def new_group():
    """Return a function that makes the ends of a new group, one for each worker."""
    from nano_init.distributed.shared_memory_group import SharedMemoryGroup

    def make(workers):
        fd = create_shared_memory(workers)
        ends = [SharedMemoryGroup(fd, index, workers) for index in range(workers)]
        os.close(fd)
        return ends

    return make
