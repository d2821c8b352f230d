"""Read a plain command line without click, which takes longer to import than to ask.

`nano-run` and `source bigdl-nano-init` stand before every script and every shell, where
click's 30 ms count. Calls with known options and nothing to explain are read here; all
others (help, errors, completion, options out of NANO_RUN_…) return None and are left to
the click command, which alone defines the options.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = ["parse_plain"]


def parse_plain(
    argv: Sequence[str],
    flags: Collection[str],
    values: Collection[str],
    lists: Collection[str] = (),
) -> tuple[dict[str, str], list[str]] | None:
    """Split a command line into long options and the operands that follow them.

    Args:
        argv: the arguments.
        flags: the options that take no value, with their hyphens, such as "--quiet".
        values: the options that take one.
        lists: those of them that may be repeated; their values are joined by commas.

    Returns:
        The options by name (a flag's value is "") and the operands from the first on;
        None where anything else is found.
    """
    options: dict[str, str] = {}
    position = 0
    while position < len(argv) and argv[position].startswith("-") and argv[position] != "-":
        name, equals, value = argv[position].partition("=")
        position += 1
        if name in flags and not equals:
            options[name] = ""
            continue
        if name not in values or not (equals or position < len(argv)):
            return None
        if not equals:
            value = argv[position]
            position += 1
        is_more = name in lists and name in options
        options[name] = f"{options[name]},{value}" if is_more else value
    return options, list(argv[position:])
