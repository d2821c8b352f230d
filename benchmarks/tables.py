"""The tables of the documentation, rendered from `benchmarks/results/`.

    python benchmarks/tables.py [NAME/TABLE ...]

prints them. `scripts/render-docs` writes them to README.md and benchmarks/README.md, between the
lines `<!-- figures: NAME/TABLE -->` and `<!-- end -->`. The documentation site includes them with
`<!-- generate: figures NAME/TABLE -->`. `NAME/about` is the line that says where, when and how the
figures of a file were measured, and `NAME/machine` a shorter one.
"""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING

from record import RESULTS, Column, Table, format_table

if TYPE_CHECKING:
    from typing import Any

__all__ = ["VIEWS", "figures_markdown", "fill_blocks", "read_record", "read_tables"]

_BLOCK = re.compile(r"^<!-- figures: (\S+) -->$.*?^<!-- end -->$", re.MULTILINE | re.DOTALL)

# Parts of tables that are shown separately: the table, the rows by their first cell, and the
# columns.
VIEWS = {
    "training-amx/gain": (
        "training-amx/summary",
        (
            "ResNet50, 128x128, batch 16",
            "transformer encoder 4x512, sequence 128",
            "LSTM 512, 64 steps",
        ),
        ("model", "stock Keras, ms/step", "nano-run, float32", "nano-run"),
    ),
    "short-calls/gain": (
        "short-calls/short-calls",
        ("fit, two batches", "predict, one row"),
        ("call", "plain Python, ms", "nano-run, ms"),
    ),
}


def read_record(name: str) -> dict[str, Any]:
    """Return the content of a file in `results/`.

    Args:
        name: the file's name without `.json`.
    """
    record: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return record


def read_tables(name: str) -> dict[str, Table]:
    """Return the tables of a file in `results/` by name."""
    return {
        table["name"]: Table(
            table["name"],
            table["title"],
            tuple(Column(**column) for column in table["columns"]),
            tuple(map(tuple, table["rows"])),
        )
        for table in read_record(name)["tables"]
    }


def figures_markdown(wanted: str) -> str:
    """Return a table in Markdown, or the line about a file.

    Args:
        wanted: the file and the table, such as "training-amx/summary"; "FILE/about" and
            "FILE/machine" are the lines.

    Raises:
        KeyError: the table does not exist.
    """
    if wanted in VIEWS:
        source, rows, columns = VIEWS[wanted]
        return format_table(_part(_table(source), rows, columns))
    name, _, table = wanted.partition("/")
    if table == "about":
        return _about(read_record(name))
    if table == "machine":
        return _machine(read_record(name))
    return format_table(_table(wanted))


def fill_blocks(markdown: str) -> str:
    """Return a text with its blocks of figures updated."""

    def block(match: re.Match[str]) -> str:
        return f"<!-- figures: {match[1]} -->\n\n{figures_markdown(match[1])}\n\n<!-- end -->"

    return _BLOCK.sub(block, markdown)


def _table(wanted: str) -> Table:
    name, _, table = wanted.partition("/")
    return read_tables(name)[table]


def _part(table: Table, rows: tuple[str, ...], columns: tuple[str, ...]) -> Table:
    places = [[column.name for column in table.columns].index(name) for name in columns]
    by_name = {row[0]: row for row in table.rows}
    return Table(
        table.name,
        table.title,
        tuple(table.columns[place] for place in places),
        tuple(tuple(by_name[row][place] for place in places) for row in rows),
    )


def _machine(record: dict[str, Any]) -> str:
    version = record["versions"].get("TensorFlow")
    software = f" with TensorFlow {version}" if version else ""
    return f"Measured on {record['machine']}{software}, {record['date']}."


def _about(record: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    measured = f"Measured by `{record['command']}` on {record['machine']}; {versions}"
    when = f"{record['date']}, commit {record['commit']}."
    return " ".join(filter(None, (f"{measured}; {when}", record["note"])))


def main() -> None:
    """Print the named tables, or all of them."""
    wanted = sys.argv[1:] or [
        f"{path.stem}/{table}"
        for path in sorted(RESULTS.glob("*.json"))
        for table in ("about", *read_tables(path.stem))
    ]
    for name in wanted:
        print(f"\n### {name}\n\n{figures_markdown(name)}")


if __name__ == "__main__":
    main()
