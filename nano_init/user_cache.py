"""Where nano-init keeps what it has measured, in the user's cache folder."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["cache_folder", "tuned_folder"]


def cache_folder(environ: Mapping[str, str]) -> str:
    """Return the folder (XDG Base Directory Specification).

    Args:
        environ: the environment.
    """
    base = environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the specification: relative paths must be ignored
        base = os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".cache")
    return os.path.join(base, "nano-init")


def tuned_folder(environ: Mapping[str, str]) -> str:
    """Return the folder of the choices that `--tune` has made."""
    return os.path.join(cache_folder(environ), "tuned")
