"""What to set so that a process uses another memory allocator. Pure."""

from __future__ import annotations

import os

from nano_init.errors import UsageError
from nano_init.plan.settings import Setting
from nano_init.shells.preload import append_library, list_libraries

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ALLOCATOR_CHOICES", "allocator_settings"]

ALLOCATOR_CHOICES = ("none", "auto", "jemalloc", "tcmalloc")

# Freed memory goes back after jemalloc's own ten seconds. BigDL-Nano set both decay times to
# -1 (never), which fills a container up to its limit (github.com/jemalloc/jemalloc/issues/1832).
_JEMALLOC = "oversize_threshold:1,background_thread:true,metadata_thp:auto"

_PACKAGES = {"jemalloc": "libjemalloc2", "tcmalloc": "libtcmalloc-minimal4"}


def allocator_settings(
    choice: str, library: str | None, environ: Mapping[str, str]
) -> tuple[Setting, ...]:
    """Return the settings that preload an allocator; none for "none".

    Args:
        choice: one of ALLOCATOR_CHOICES.
        library: the path of the library that was found and loads, or None.
        environ: the user's environment; his own preloads stay, and stand first.

    Raises:
        UsageError: the choice is unknown, or no such library loads here.
    """
    if choice not in ALLOCATOR_CHOICES:
        raise UsageError(
            f"allocator {choice!r} is unknown; choose one of {', '.join(ALLOCATOR_CHOICES)}"
        )
    if choice == "none":
        return ()
    if library is None:
        wanted = _PACKAGES if choice == "auto" else {choice: _PACKAGES[choice]}
        packages = " or ".join(wanted.values())
        raise UsageError(
            f"no usable {' or '.join(wanted)} library found; "
            f"install {packages} (Debian's package name) or omit --allocator"
        )
    return (_preload(library, environ), *_configuration(library))


def _preload(library: str, environ: Mapping[str, str]) -> Setting:
    own = environ.get("LD_PRELOAD")
    if library in list_libraries(own or ""):
        return Setting("LD_PRELOAD", own, f"{library} is preloaded already", "kept")
    reason = f"{os.path.basename(library)} allocates memory, as requested; it loads here"
    if own:
        reason += ", and comes after your own preloads"
    return Setting("LD_PRELOAD", append_library(own, library), reason)


def _configuration(library: str) -> tuple[Setting, ...]:
    if "jemalloc" not in os.path.basename(library):
        return ()
    reason = "jemalloc purges in a background thread and returns freed memory"
    return (Setting("MALLOC_CONF", _JEMALLOC, reason),)
