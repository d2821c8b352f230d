"""Which TensorFlow is installed, read from its metadata without importing it."""

from __future__ import annotations

import os
import sys

from nano_init.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Literal

    ThreadPool = Literal["eigen", "openmp"]

__all__ = ["Build", "read_build"]

_DISTRIBUTIONS: dict[str, ThreadPool] = {
    # The distribution's name as its dist-info folder spells it, and the thread pool
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
        keras: the versions of Keras next to it, such as "keras 3.15.1, tf_keras 2.21.0".
    """

    name: str
    version: str
    pool: ThreadPool
    keras: str = ""

    def __str__(self) -> str:
        """Return the name and the version."""
        return f"{self.name} {self.version}"


def read_build(search_path: Sequence[str] | None = None) -> Build | None:
    """Return the TensorFlow that Python would import, or None if there is none.

    Args:
        search_path: folders to look in, in order; `sys.path` by default.
    """
    folders = sys.path if search_path is None else search_path
    for folder in folders:
        found = _find_in(folder, "tensorflow", _DISTRIBUTIONS)
        if found is not None:
            distribution, version = found
            name = distribution.replace("_", "-")
            return Build(name, version, _DISTRIBUTIONS[distribution], _read_keras(folders))
    return None


def _read_keras(folders: Sequence[str]) -> str:
    versions = []
    for package in ("keras", "tf_keras"):
        all_found = (_find_in(folder, package, (package,)) for folder in folders)
        versions += [f"{name} {version}" for name, version in filter(None, all_found)][:1]
    return ", ".join(versions)


def _find_in(folder: str, package: str, distributions: Collection[str]) -> tuple[str, str] | None:
    """Return the distribution of a package in a folder and its version, or None."""
    folder = folder or os.curdir
    if not os.path.isdir(os.path.join(folder, package)):
        return None
    try:
        entries = sorted(os.listdir(folder))
    except OSError:  # Python can import out of a folder that it may not list
        return None
    for entry in entries:
        stem, extension = os.path.splitext(entry)
        name, _, version = stem.partition("-")
        if extension == ".dist-info" and name.lower() in distributions:
            return name.lower(), version
    return None
