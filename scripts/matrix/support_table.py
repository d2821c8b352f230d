"""The table of what works on which pair: kept as data, shown in the support policy."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from suites import Counts, Versions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "SUPPORT_FILE",
    "SUPPORT_PAGE",
    "SupportRow",
    "merge_rows",
    "read_rows",
    "render_table",
    "with_table",
    "write_rows",
]

_ROOT = Path(__file__).resolve().parents[2]
SUPPORT_FILE = _ROOT / "docs" / "support.json"
SUPPORT_PAGE = _ROOT / "docs" / "support.md"
_BEGIN, _END = "<!-- scripts/test-matrix -->\n", "<!-- end of scripts/test-matrix -->\n"


@dataclass(frozen=True)
class SupportRow:
    """What one pair did.

    Args:
        pair: Its name in the matrix.
        versions: What was installed.
        counts: What each suite came to, by its name; None where it was not run.
    """

    pair: str
    versions: Versions
    counts: Mapping[str, Counts | None]


def read_rows(path: Path = SUPPORT_FILE) -> list[SupportRow]:
    """Return the rows of a file."""
    return [
        SupportRow(
            row["pair"],
            Versions(**row["versions"]),
            {name: Counts(**n) if n else None for name, n in row["counts"].items()},
        )
        for row in json.loads(path.read_text(encoding="utf-8"))
    ]


def write_rows(rows: Iterable[SupportRow], path: Path = SUPPORT_FILE) -> None:
    """Write rows as one line of JSON each."""
    lines = [json.dumps(asdict(row)) for row in rows]
    path.write_text("[\n  " + ",\n  ".join(lines) + "\n]\n", encoding="utf-8")


def merge_rows(
    old: Sequence[SupportRow], new: Sequence[SupportRow], order: Sequence[str]
) -> list[SupportRow]:
    """Return the old rows with new ones in their place, in the order of the pairs' names."""
    rows = {row.pair: row for row in [*old, *new]}
    return [rows[name] for name in order if name in rows]


def render_table(rows: Sequence[SupportRow]) -> str:
    """Return a Markdown table of rows, with a final newline."""
    suites = list(dict.fromkeys(name for row in rows for name in row.counts))
    heads = ["TensorFlow", "Keras", "tf_keras", "Python", *suites]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        versions = row.versions
        python = ".".join(versions.python.split(".")[:2])
        cells = [_shown(row.counts.get(name)) for name in suites]
        lines.append([versions.tensorflow, versions.keras, versions.tf_keras, python, *cells])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _shown(counts: Counts | None) -> str:
    if counts is None:
        return "not run"
    if not counts.failed:
        return "pass" if counts.passed >= counts.skipped else f"{counts.skipped} skipped"
    return f"{counts.failed} of {counts.passed + counts.failed} fail"


def with_table(text: str, table: str) -> str:
    """Return a text with the table between its two marks.

    Raises:
        ValueError: A mark is missing.
    """
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"there is no table between {_BEGIN.strip()} and {_END.strip()}")
    return f"{before}{begin}{table}{end}{after}"
