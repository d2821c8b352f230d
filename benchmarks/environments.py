"""The virtual environments of others that a benchmark runs in, checked before it starts."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["UnusableEnvironment", "python_of", "versions_in"]

_VERSIONS = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
print(json.dumps(found))
"""


class UnusableEnvironment(Exception):  # noqa: N818 - it names what is wrong
    """A folder is no virtual environment with what a benchmark needs."""


def python_of(folder: str) -> str:
    """Return the path of the Python of a virtual environment."""
    return os.path.join(folder, "bin", "python")


def versions_in(folder: str, option: str, packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of packages in a virtual environment.

    Args:
        folder: The environment's folder.
        option: The option that named it, for the message.
        packages: What must be installed there.

    Raises:
        UnusableEnvironment: The folder does not exist, has no Python, or lacks a package.
    """
    if not os.path.isdir(folder):
        raise UnusableEnvironment(f"{option}: folder not found: {folder}")
    command = [python_of(folder), "-c", _VERSIONS, *packages]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        raise UnusableEnvironment(
            f"{option}: {folder} is no virtual environment: {command[0]} does not run"
        ) from None
    found: dict[str, str] = json.loads(done.stdout)
    missing = [name for name in packages if name not in found]
    if missing:
        raise UnusableEnvironment(
            f"{option}: {folder} has no {' and no '.join(missing)}; install with "
            f"{folder}/bin/pip install {' '.join(missing)}"
        )
    return found
