"""Find the file that `python -m NAME` runs, as Python does, but without importing anything."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["find_module_file"]


def find_module_file(
    name: str, environ: Mapping[str, str], search_path: list[str] | None = None
) -> str | None:
    """Return the file, or None if there is none.

    `importlib.util.find_spec` imports the module's parent packages; this does not.

    Args:
        name: the module's dotted name.
        environ: the environment that Python starts in; PYTHONPATH and PYTHONSAFEPATH are read.
        search_path: the folders to search after PYTHONPATH; by default those of this process.
    """
    import sys
    from importlib.machinery import PathFinder

    behind = sys.path[1:] if search_path is None else search_path
    path = [*environ.get("PYTHONPATH", "").split(os.pathsep), *behind]
    path = ["" if environ.get("PYTHONSAFEPATH") else os.getcwd(), *path]
    places: list[str] | None = [entry for entry in path if entry]
    parts = name.split(".")
    for number in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:number]), places)
        if spec is None:
            return None
        places = spec.submodule_search_locations
        if places is None and number < len(parts):
            return None
    if places is not None:
        spec = PathFinder.find_spec(f"{name}.__main__", places)
    return spec.origin if spec is not None and spec.has_location else None
