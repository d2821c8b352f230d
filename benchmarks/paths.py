"""Gain of each faster path: `nano-run` with all paths against all but one.

    python benchmarks/paths.py [--pairs path:model,...] [--rounds N] [--precision P]

Each figure comes from its own process, alternately with and without the path; ratios are computed
per round. The gains do not add up, because the paths share memory bandwidth and threads.
"""

from __future__ import annotations

import argparse
import statistics

from figures import Result
from models import MODELS
from record import Column, Table, add_json_option, format_table, write_record
from training import Configuration, run_configuration

from nano_init.protocol.faster_paths import PATH_RECORDS

PAIRS = tuple(f"{record.name}:{model}" for record in PATH_RECORDS for model in record.models)

_COLUMNS = (
    Column("path"),
    Column("model"),
    Column("without, ms/step", 1),
    Column("with, ms/step", 1),
    Column("times as fast (spread)", 2),
)


def main() -> None:
    """Measure every pair and print its row."""
    options = _parse()
    precision = ("--precision", options.precision)
    rows = []
    for pair in options.pairs.split(","):
        path, model = pair.split(":")
        without = Result(model, "without", path)
        with_it = Result(model, "with", path)
        for _ in range(options.rounds):
            for result, left_out in ((without, ("--disable", path)), (with_it, ())):
                started = Configuration(path, nano_run=(*precision, *left_out))
                result.add(run_configuration(model, started, blocks=options.blocks))
        pairs = zip(without.fastest_fifths, with_it.fastest_fifths, strict=True)
        ratios = [a / b for a, b in pairs]
        before, after = (statistics.median(r.fastest_fifths) for r in (without, with_it))
        spread = (statistics.median(ratios), min(ratios), max(ratios))
        rows.append((f"`{path}`", MODELS[model].title, before, after, spread))
    title = f"nano-run with all faster paths against all but one, {options.precision}"
    table = Table("paths", title, _COLUMNS, tuple(rows))
    print(format_table(table))
    if options.json:
        write_record(options.json, "paths", [table])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", default=",".join(PAIRS), help="PATH:MODEL, commas between")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--blocks", type=int, default=4, help="timed blocks of steps per process")
    parser.add_argument("--precision", default="auto", help="as for nano-run")
    add_json_option(parser, "paths")
    options = parser.parse_args()
    for pair in options.pairs.split(","):
        if pair.count(":") != 1 or pair.split(":")[1] not in MODELS:
            parser.error(f"{pair!r} is not PATH:MODEL; models are {', '.join(MODELS)}")
    return options


if __name__ == "__main__":
    main()
