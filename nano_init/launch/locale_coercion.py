"""Undo Python's locale coercion in the environment."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["without_locale_coercion"]

# The values that Python sets LC_CTYPE to instead of the "C" locale (PEP 538).
_COERCED = ("C.UTF-8", "C.utf8", "UTF-8")


def without_locale_coercion(environ: Mapping[str, str], root: str = "/") -> dict[str, str]:
    """Return the environment with LC_CTYPE as it was before Python coerced the locale.

    A child Python would take the coerced locale for the user's choice, and not enable the UTF-8
    mode that it enables under the "C" locale (PEP 540).

    Args:
        environ: this process's environment.
        root: the folder that stands for "/".
    """
    given = dict(environ)
    if given.get("LC_CTYPE") not in _COERCED:
        return given
    known, initial = _read_initial_locale(root)
    if not known:
        return given
    del given["LC_CTYPE"]
    return given if initial is None else {**given, "LC_CTYPE": initial}


def _read_initial_locale(root: str) -> tuple[bool, str | None]:
    """Return whether the process's initial environment is known, and LC_CTYPE in it."""
    try:
        with open(f"{root}proc/self/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return False, None
    for entry in entries:
        name, _, value = entry.partition(b"=")
        if name == b"LC_CTYPE":
            return True, value.decode(errors="surrogateescape")
    return True, None
