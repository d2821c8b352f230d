"""An unnamed file is in memory if the system supports that, or else in a folder."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from nano_init.evidence.sampling.unnamed_file import open_unnamed_file


def forbidden(_name: str) -> int:
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize("create", [None, forbidden, getattr(os, "memfd_create", None)])
def test_written_data_can_be_read_back(create: Callable[[str], int] | None) -> None:
    with open_unnamed_file("test", create) as file:
        os.write(file.fileno(), b"text")
        file.seek(0)
        assert file.read() == b"text"
        assert os.fstat(file.fileno()).st_nlink == 0


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this system has no files in memory")
def test_a_file_in_memory_needs_no_folder() -> None:
    with open_unnamed_file("test") as file:
        assert os.readlink(f"/proc/self/fd/{file.fileno()}").startswith("/memfd:test")
