"""LD_PRELOAD as a list: add a library once, and take it out without touching the others.

The list's elements are separated by blanks or colons, and there is no way to escape either
(ld.so(8), "LD_PRELOAD").
"""

from __future__ import annotations

from nano_init.errors import UsageError

__all__ = ["append_library", "list_libraries", "remove_added"]

_SEPARATORS = " :"


def list_libraries(value: str) -> tuple[str, ...]:
    """Return the elements of a value of LD_PRELOAD, in order."""
    return tuple(element for element in value.replace(":", " ").split(" ") if element)


def append_library(value: str | None, library: str) -> str:
    """Return a value of LD_PRELOAD with a library at its end; the same if it has it already.

    Last, because the user's own libraries should go on being searched first.

    Args:
        value: the present value, or None where it is unset.
        library: the path of a shared library.

    Raises:
        UsageError: the path is empty or has a blank or a colon in it.
    """
    if not library or any(separator in library for separator in _SEPARATORS):
        raise UsageError(
            f"LD_PRELOAD cannot contain {library!r}: its paths may not contain a space or a colon"
        )
    if not value:
        return library
    return value if library in list_libraries(value) else f"{value}:{library}"


def remove_added(before: str | None, after: str | None, now: str) -> str | None:
    """Return a present value of LD_PRELOAD without the libraries that nano-init added.

    Args:
        before: the value before nano-init, or None where it was unset.
        after: the value that nano-init set.
        now: the value, which the user may have changed since.

    Returns:
        The value with every other element and separator as it is; None where nothing is
        left and the variable was unset before.
    """
    added = set(list_libraries(after or "")) - set(list_libraries(before or ""))
    for library in added:
        now = _remove(now, library)
    return before if not now and not before else now


def _remove(value: str, library: str) -> str:
    """Remove an element and the separator before it, or after it if it is the first."""
    start = 0
    while (start := value.find(library, start)) >= 0:
        end = start + len(library)
        opens = start == 0 or value[start - 1] in _SEPARATORS
        closes = end == len(value) or value[end] in _SEPARATORS
        if not (opens and closes):
            start = end
        elif start:
            value = value[: start - 1] + value[end:]
            start -= 1
        else:
            value = value[end + 1 :]
    return value
