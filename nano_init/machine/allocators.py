"""Find a memory allocator that can be preloaded, and prove that it loads."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Run = Callable[[list[str], dict[str, str]], str]

__all__ = ["ALLOCATORS", "find_allocator", "loads"]

# By versioned soname first: the bare .so belongs to development packages, which a container
# seldom has (Debian policy, 8.2).
ALLOCATORS = {
    "jemalloc": ("libjemalloc.so.2", "libjemalloc.so"),
    "tcmalloc": (
        "libtcmalloc_minimal.so.4",
        "libtcmalloc.so.4",
        "libtcmalloc_minimal.so",
        "libtcmalloc.so",
    ),
}

_PREFIXES = ("CONDA_PREFIX", "VIRTUAL_ENV")


def find_allocator(
    kind: str, environ: Mapping[str, str], root: str = "/", run: Run | None = None
) -> str | None:
    """Return the path of an allocator's library that provably loads, or None.

    Args:
        kind: "jemalloc", "tcmalloc", or "auto" for the first of them that loads.
        environ: the environment; an active conda or virtual environment is searched first.
        root: the folder that stands for "/".
        run: runs a command with an environment and returns all that it prints.
    """
    kinds = tuple(ALLOCATORS) if kind == "auto" else (kind,)
    for name in (soname for each in kinds for soname in ALLOCATORS[each]):
        for path in _candidates(name, environ, root):
            if loads(path, run):
                return path
    return None


def loads(path: str, run: Run | None = None) -> bool:
    """Say whether a library is mapped into a process that preloads it, without a complaint.

    A library may be there and still not load: one of its own dependencies may be missing, or
    it may be made for another architecture. Then ld.so prints an error and goes on without it.
    """
    if " " in path or ":" in path:  # ld.so has no way to quote either
        return False
    shown = (run or _run)(["cat", "/proc/self/maps"], {"LD_PRELOAD": path})
    return os.path.basename(os.path.realpath(path)) in shown and "ERROR: ld.so" not in shown


def _candidates(name: str, environ: Mapping[str, str], root: str) -> Iterator[str]:
    active = [environ[prefix] for prefix in _PREFIXES if environ.get(prefix)]
    folders = [
        *(os.path.join(prefix, "lib") for prefix in (*active, sys.prefix)),
        *(os.path.join(root, folder.lstrip("/")) for folder in _system_folders(root)),
    ]
    for folder in dict.fromkeys(folders):
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            yield path


def _system_folders(root: str) -> Iterator[str]:
    """Give the folders that ld.so searches: those of its configuration, then the usual ones."""
    configured = os.path.join(root, "etc/ld.so.conf.d")
    for entry in sorted(os.listdir(configured)) if os.path.isdir(configured) else ():
        yield from _configured_folders(os.path.join(configured, entry))
    machine = os.uname().machine
    yield from (f"/usr/lib/{machine}-linux-gnu", f"/lib/{machine}-linux-gnu")
    yield from ("/usr/local/lib", "/usr/lib64", "/usr/lib", "/lib64", "/lib")


def _configured_folders(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return [line.strip() for line in file if line.startswith("/")]
    except OSError:
        return []  # a link to nowhere: ld.so leaves it out likewise


def _run(command: list[str], environ: dict[str, str]) -> str:
    import subprocess

    path = {"PATH": os.environ.get("PATH", os.defpath)}
    done = subprocess.run(
        command,
        env={**path, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return done.stdout
