"""An allocator is preloaded only if it is found and loads."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nano_init.machine.allocators import find_allocator, loads

MULTIARCH = f"usr/lib/{os.uname().machine}-linux-gnu"


def maps(_command: list[str], environ: dict[str, str]) -> str:
    """Simulate a process in which every preloaded library is mapped."""
    return f"7f00-7f01 r-xp 0 00:00 1  {environ['LD_PRELOAD']}\n"


def put(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("")


class TestFindAllocator:
    def test_a_versioned_system_library_is_found(self, tmp_path: Path) -> None:
        put(tmp_path, f"{MULTIARCH}/libjemalloc.so.2")
        found = find_allocator("jemalloc", {}, str(tmp_path), maps)
        assert found == str(tmp_path / MULTIARCH / "libjemalloc.so.2")

    def test_an_active_environment_takes_precedence_over_the_system(self, tmp_path: Path) -> None:
        put(tmp_path, "conda/lib/libjemalloc.so.2", "usr/lib/libjemalloc.so.2")
        environ = {"CONDA_PREFIX": str(tmp_path / "conda")}
        found = find_allocator("jemalloc", environ, str(tmp_path), maps)
        assert found == str(tmp_path / "conda/lib/libjemalloc.so.2")

    def test_folders_in_the_loader_configuration_are_searched(self, tmp_path: Path) -> None:
        put(tmp_path, "opt/memory/libjemalloc.so.2")
        (tmp_path / "etc/ld.so.conf.d").mkdir(parents=True)
        (tmp_path / "etc/ld.so.conf.d/memory.conf").write_text("# ours\n/opt/memory\n")
        found = find_allocator("jemalloc", {}, str(tmp_path), maps)
        assert found == str(tmp_path / "opt/memory/libjemalloc.so.2")

    def test_an_unreadable_loader_configuration_is_skipped(self, tmp_path: Path) -> None:
        put(tmp_path, "usr/lib/libjemalloc.so.2", "etc/ld.so.conf.d/a/folder.conf")
        (tmp_path / "etc/ld.so.conf.d/b.conf").symlink_to("nowhere")
        found = find_allocator("jemalloc", {}, str(tmp_path), maps)
        assert found == str(tmp_path / "usr/lib/libjemalloc.so.2")

    def test_a_library_that_does_not_load_is_skipped(self, tmp_path: Path) -> None:
        put(tmp_path, "usr/local/lib/libjemalloc.so.2", "usr/lib/libjemalloc.so.2")

        def run(command: list[str], environ: dict[str, str]) -> str:
            broken = "local" in environ["LD_PRELOAD"]
            return "ERROR: ld.so: object cannot be preloaded" if broken else maps(command, environ)

        found = find_allocator("jemalloc", {}, str(tmp_path), run)
        assert found == str(tmp_path / "usr/lib/libjemalloc.so.2")

    def test_auto_chooses_the_first_library_that_loads(self, tmp_path: Path) -> None:
        put(tmp_path, "usr/lib/libtcmalloc_minimal.so.4")
        found = find_allocator("auto", {}, str(tmp_path), maps)
        assert found == str(tmp_path / "usr/lib/libtcmalloc_minimal.so.4")

    def test_no_library_returns_none(self, tmp_path: Path) -> None:
        assert find_allocator("jemalloc", {}, str(tmp_path), maps) is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ld.so is Linux's")
class TestLoads:
    def test_a_file_that_is_not_a_library_does_not_load(self, tmp_path: Path) -> None:
        (tmp_path / "libjemalloc.so.2").write_text("no library")
        assert not loads(str(tmp_path / "libjemalloc.so.2"))

    def test_a_path_that_ld_preload_cannot_contain_does_not_load(self, tmp_path: Path) -> None:
        assert not loads(str(tmp_path / "a b.so"), maps)
        assert not loads(str(tmp_path / "a:b.so"), maps)

    def test_a_real_library_loads(self) -> None:
        import ctypes.util

        name = ctypes.util.find_library("m")
        assert name is not None
        path = next(
            line.split()[-1]
            for line in Path("/proc/self/maps").read_text().splitlines()
            if "libc.so" in line or "libc-" in line
        )
        assert loads(path)
