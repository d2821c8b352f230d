"""Load and run the programs in scripts/, which import modules from their own folders."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def import_from(monkeypatch):
    """Return a function that imports a module from a folder in scripts/."""
    from importlib import import_module

    def load(folder, name):
        monkeypatch.syspath_prepend(str(SCRIPTS / folder))
        return import_module(name)

    return load


@pytest.fixture
def run_script():
    """Return a function that runs a program in scripts/."""

    def run(name, *arguments):
        return subprocess.run(
            [str(SCRIPTS / name), *arguments],
            env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    return run
