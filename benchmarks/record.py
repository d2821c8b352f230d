"""The results of a benchmark as data: tables, and the machine, versions and command.

A benchmark prints its tables and, with `--json`, writes them to `benchmarks/results/`. `tables.py`
renders them into the documentation.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any

    # A text, a number, a number with its minimum and maximum, or nothing.
    Cell = str | float | Sequence[float] | None

__all__ = [
    "RESULTS",
    "Column",
    "Table",
    "add_json_option",
    "describe_run",
    "format_table",
    "write_record",
]

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        name: its heading, with the unit.
        decimals: decimal places of its numbers.
        percent: whether its numbers are fractions, shown in percent.
    """

    name: str
    decimals: int = 0
    percent: bool = False


@dataclass(frozen=True)
class Table:
    """Figures in rows.

    Args:
        name: a short name, unique in its file.
        title: what it shows.
        columns: its columns.
        rows: a cell for each column; a number with its spread is [median, minimum, maximum].
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


def format_table(table: Table) -> str:
    """Return a table in Markdown."""
    lines = [
        "| " + " | ".join(column.name for column in table.columns) + " |",
        "|" + " --- |" * len(table.columns),
    ]
    for row in table.rows:
        cells = [_format(cell, column) for cell, column in zip(row, table.columns, strict=True)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _format(cell: Cell, column: Column) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, (int, float)):
        if column.percent:
            return f"{cell:.{column.decimals}%}"
        return f"{cell:,.{column.decimals}f}"
    middle, least, greatest = (_format(number, column) for number in cell)
    return f"{middle} ({least} to {greatest})"


def add_json_option(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the option `--json [FILE]` to a benchmark.

    Args:
        parser: the benchmark's parser.
        name: the benchmark's name, which is also that of its file in `results/`.
    """
    parser.add_argument(
        "--json",
        metavar="FILE",
        nargs="?",
        const=str(RESULTS / f"{name}.json"),
        help=f"write the figures as JSON; by default to benchmarks/results/{name}.json",
    )


def describe_run() -> dict[str, Any]:
    """Return the machine, the versions, the command, the date and the commit of this run."""
    from nano_init.machine.probe import probe

    isa = probe().isa
    return {
        "machine": f"{isa.model}, {isa.level or 'no oneDNN level'}, {os.cpu_count()} threads",
        "versions": _versions(),
        "command": shlex.join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "commit": _commit(),
    }


def write_record(path: str, name: str, tables: Sequence[Table], **more: Any) -> None:
    """Write the results of a benchmark.

    Args:
        path: the file.
        name: the benchmark's name.
        tables: its tables.
        more: other values to keep, such as the figures of each round.
    """
    record = {
        "benchmark": name,
        **describe_run(),
        "note": "",
        "tables": [asdict(table) for table in tables],
        **more,
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(record, file, indent=1, ensure_ascii=False)
        file.write("\n")


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"Python": platform.python_version()}
    with contextlib.suppress(PackageNotFoundError):
        found["TensorFlow"] = version("tensorflow")
        found["Keras"] = version("keras")
    return found


def _commit() -> str:
    command = ["git", "-C", str(RESULTS.parent), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()
