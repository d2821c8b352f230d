"""Which TensorFlow is installed, read from its metadata without importing it."""

from __future__ import annotations

import os
import sys

from nano_init.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    ThreadPool = Literal["eigen", "openmp"]

__all__ = ["Build", "read_build"]

_DISTRIBUTIONS: dict[str, ThreadPool] = {
    # The distribution's name as it stands in its dist-info folder, and the thread pool
    # that its kernels run on. Stock wheels link no OpenMP runtime; Intel's build does.
    "tensorflow": "eigen",
    "tensorflow_cpu": "eigen",
    "tensorflow_cpu_aws": "eigen",
    "tensorflow_macos": "eigen",
    "tf_nightly": "eigen",
    "tf_nightly_cpu": "eigen",
    "intel_tensorflow": "openmp",
    "intel_tensorflow_avx512": "openmp",
}


@frozen
class Build:
    """An installed TensorFlow.

    Args:
        name: the distribution's name, such as "tensorflow" or "intel-tensorflow".
        version: its version.
        pool: the thread pool that its kernels run on.
    """

    name: str
    version: str
    pool: ThreadPool

    def __str__(self) -> str:
        """Return the name and the version."""
        return f"{self.name} {self.version}"


def read_build(search_path: Sequence[str] | None = None) -> Build | None:
    """Return the TensorFlow that Python would import, or None if there is none.

    Args:
        search_path: folders to look in, in order; `sys.path` by default.
    """
    for folder in sys.path if search_path is None else search_path:
        build = _build_in(folder)
        if build:
            return build
    return None


def _build_in(folder: str) -> Build | None:
    folder = folder or os.curdir
    if not os.path.isdir(os.path.join(folder, "tensorflow")):
        return None
    try:
        entries = sorted(os.listdir(folder))
    except OSError:  # Python can import out of a folder that it may not list
        return None
    for entry in entries:
        stem, extension = os.path.splitext(entry)
        name, _, version = stem.partition("-")
        if extension == ".dist-info" and name.lower() in _DISTRIBUTIONS:
            return Build(name.lower().replace("_", "-"), version, _DISTRIBUTIONS[name.lower()])
    return None
