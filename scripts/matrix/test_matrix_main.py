"""Run the tests of each pair of TensorFlow and Keras in its own environment; print a table."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from environments import EnvironmentFailedError, find_python, make_environment
from pairs import PRE_RELEASE, choose_pairs, read_matrix
from suites import read_versions, run_suite
from support_table import (
    SUPPORT_FILE,
    SUPPORT_PAGE,
    SupportRow,
    merge_rows,
    read_rows,
    render_table,
    with_table,
    write_rows,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pairs import Matrix, Pair

_EXAMPLE = """
example: scripts/test-matrix oldest pre-release
         scripts/test-matrix --write        all pairs; the table in docs/support.md is the output
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if every test passed on every pair, 1 if not, 2 if the command line is wrong."""
    matrix = read_matrix()
    options = _parser().parse_args(arguments)
    try:
        pairs = choose_pairs(matrix.pairs, options.pairs)
    except ValueError as error:
        print(f"test-matrix: {error}", file=sys.stderr)
        return 2
    if options.list:
        for pair in pairs:
            there = "" if find_python(pair.python) else " (not found: this Python takes its place)"
            print(f"{pair.name}  tf_keras {pair.tf_keras}, Python {pair.python}{there}")
        return 0
    rows, is_good = _run_pairs(pairs, matrix, options)
    if rows:
        print(render_table(rows), end="")
    if options.write and rows:
        _write(rows, matrix)
    return 0 if is_good else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/test-matrix",
        description=__doc__,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("pairs", nargs="*", metavar="PAIR", help="names of --list, oldest, newest, pre-release")
    add("--list", action="store_true", help="print the pairs and stop")
    add(
        "--folder",
        type=Path,
        default=Path(".venv-matrix"),
        help="for the environments (%(default)s)",
    )
    add("-n", dest="processes", type=int, default=os.cpu_count() or 1, help="test processes")
    add(
        "--write",
        action="store_true",
        help=f"keep the results in {SUPPORT_FILE.name} and docs/support.md",
    )
    return parser


def _run_pairs(
    pairs: Sequence[Pair], matrix: Matrix, options: argparse.Namespace
) -> tuple[list[SupportRow], bool]:
    rows, is_good = [], True
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for pair in pairs:
        try:
            row = _run_pair(pair, matrix, folder, options.processes)
        except (EnvironmentFailedError, RuntimeError) as error:
            print(f"test-matrix: {pair.name}: {error}", file=sys.stderr)
            is_good = False
            continue
        rows.append(row)
        is_good &= not any(counts and counts.failed for counts in row.counts.values())
    return rows, is_good


def _run_pair(pair: Pair, matrix: Matrix, folder: Path, processes: int) -> SupportRow:
    begin = time.monotonic()
    python = make_environment(pair, folder, matrix.tools)
    versions = read_versions(python)
    counts = {}
    for name, paths in matrix.suites.items():
        log = folder / pair.name / f"{name.replace(' ', '_')}.log"
        # On a pre-release a guard may step aside; on a release it must not.
        required = "" if pair.keras == PRE_RELEASE else "bfloat16"
        counts[name] = run_suite(python, paths, processes, log, required)
        if counts[name] and counts[name].failed:
            print(f"test-matrix: {pair.name}: {name}: failures in {log}", file=sys.stderr)
    seconds = time.monotonic() - begin
    print(f"test-matrix: {pair.name}: {seconds:.0f} s", file=sys.stderr)
    return SupportRow(pair.name, versions, counts)


def _write(rows: Sequence[SupportRow], matrix: Matrix) -> None:
    old = read_rows() if SUPPORT_FILE.is_file() else []
    merged = merge_rows(old, rows, [pair.name for pair in matrix.pairs])
    write_rows(merged)
    text = SUPPORT_PAGE.read_text(encoding="utf-8")
    SUPPORT_PAGE.write_text(with_table(text, render_table(merged)), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
