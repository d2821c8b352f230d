"""Words and columns of text that a person reads. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["align", "align_wrapped", "count_of"]

_NARROWEST = 24


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 core" or "2 cores"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, with two blanks between its columns.

    Args:
        rows: the cells, as many in each row.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def align_wrapped(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return the lines of a table whose last column is wrapped under itself.

    Args:
        rows: the cells, as many in each row.
        width: columns of the terminal; the last column gets 24 at least.
    """
    import textwrap

    heads = align([row[:-1] for row in rows])
    indent = max(map(len, heads)) + 2
    lines: list[str] = []
    for head, row in zip(heads, rows, strict=True):
        wrapped = textwrap.wrap(
            row[-1], max(_NARROWEST, width - indent), break_on_hyphens=False
        ) or [""]
        lines.append(f"{head:{indent}}{wrapped[0]}".rstrip())
        lines += [" " * indent + rest for rest in wrapped[1:]]
    return lines
