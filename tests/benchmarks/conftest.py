"""The benchmarks are scripts: their folder is where they find each other."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder, from which modules are imported meanwhile."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(FOLDER))
    yield FOLDER
    for name in set(sys.modules) - before:
        if str(FOLDER) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]
