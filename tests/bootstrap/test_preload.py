"""An allocator is preloaded only into the process that it was requested for."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nano_init.machine.allocators import find_allocator

Run = Callable[..., "subprocess.CompletedProcess[str]"]

SHOW = """
import os, subprocess
print("mapped", "libjemalloc" in open("/proc/self/maps").read())
print("own", os.environ.get("LD_PRELOAD"), "NANO_INIT_PRELOAD" in os.environ)
child = subprocess.run(["cat", "/proc/self/maps"], capture_output=True, text=True).stdout
print("child", "libjemalloc" in child)
"""


@pytest.fixture
def jemalloc() -> str:
    path = find_allocator("jemalloc", os.environ)
    if path is None:
        pytest.skip("needs a jemalloc library (libjemalloc2)")
    return path


@pytest.mark.parametrize("own", [None, ""])
def test_the_process_loads_the_allocator_and_its_children_do_not(
    nano_run: Run, tmp_path: Path, jemalloc: str, own: str | None
) -> None:
    (tmp_path / "s.py").write_text(SHOW)
    result = nano_run("-q", "--allocator", "jemalloc", "s.py", env={"LD_PRELOAD": own})
    assert result.stderr == ""
    assert result.stdout.splitlines() == ["mapped True", f"own {own} False", "child False"]


def test_the_users_ld_preload_reaches_the_children(
    nano_run: Run, tmp_path: Path, jemalloc: str
) -> None:
    (tmp_path / "s.py").write_text("import os; print(os.environ['LD_PRELOAD'])")
    result = nano_run("-q", "--allocator", "auto", "s.py", env={"LD_PRELOAD": jemalloc})
    assert result.stdout == f"{jemalloc}\n"


def test_an_unknown_allocator_is_rejected(nano_run: Run, tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("")
    result = nano_run("--allocator", "mimalloc", "s.py")
    assert result.returncode == 2
    assert result.stderr == (
        "nano-run: allocator 'mimalloc' is unknown; choose one of none, auto, jemalloc, tcmalloc\n"
    )
