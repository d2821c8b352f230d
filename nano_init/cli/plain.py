"""Read a plain command line without click, which takes longer to import than to ask.

`nano-run` and `source bigdl-nano-init` stand before every script and every shell, where
click's 30 ms count. Calls with plain options and nothing to explain are read here; all
others (help, errors, completion, options out of NANO_RUN_…) return None and are left to click.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Protocol

    class Row(Protocol):
        """An option."""

        @property
        def names(self) -> tuple[str, ...]:
            """Return its names, with their hyphens."""

        @property
        def field(self) -> str:
            """Return where its value goes."""

        @property
        def kind(self) -> str:
            """Return "flag", "value" or "list"."""

        @property
        def is_plain(self) -> bool:
            """Say whether it is read here."""


__all__ = ["parse_plain"]


def parse_plain(
    argv: Sequence[str], options: Iterable[Row]
) -> tuple[dict[str, Any], list[str]] | None:
    """Split a command line into options and the operands that follow them.

    Args:
        argv: the arguments.
        options: the options that there are.

    Returns:
        The values of the options that were given, by their fields (True for a flag, a list for
        what may be repeated), and the operands from the first on; None where anything else than
        a plain option is found.
    """
    known = {name: row for row in options if row.is_plain for name in row.names}
    given: dict[str, Any] = {}
    position = 0
    while position < len(argv) and argv[position].startswith("-") and argv[position] != "-":
        name, equals, value = argv[position].partition("=")
        position += 1
        row = known.get(name)
        if row is None:
            return None
        if row.kind == "flag":
            if equals:
                return None
            given[row.field] = True
            continue
        if not equals:
            if position == len(argv):
                return None
            value = argv[position]
            position += 1
        if row.kind == "list":
            given.setdefault(row.field, []).append(value)
        else:
            given[row.field] = value
    return given, list(argv[position:])
