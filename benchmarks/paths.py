"""Gain of each faster path: `nano-run` with all paths against all but one.

    python benchmarks/paths.py [--pairs path:model,...] [--rounds N] [--precision P]

Each figure comes from its own process, alternately with and without the path; ratios are computed
per round. The gains do not add up, because the paths share memory bandwidth and threads.
"""

from __future__ import annotations

import argparse
import statistics

from configurations import Configuration, Trial, run_configuration
from figures import Result
from models import MODELS
from record import Column, Table, add_json_option, format_table, write_record

from nano_init.protocol.faster_paths import PATH_RECORDS

PAIRS = tuple(f"{record.name}:{model}" for record in PATH_RECORDS for model in record.models)


def _columns(unit: str) -> tuple[Column, ...]:
    return (
        Column("path"),
        Column("model"),
        Column(f"without, {unit}", 1),
        Column(f"with, {unit}", 1),
        Column("times as fast (spread)", 2),
    )


def main() -> None:
    """Measure every pair and print its row."""
    options = _parse()
    precision = ("--precision", options.precision)
    trial = Trial(options.blocks, is_processor_time=options.processor_time)
    rows = []
    for pair in options.pairs.split(","):
        path, model = pair.split(":")
        without = Result(model, "without", path)
        with_it = Result(model, "with", path)
        for _ in range(options.rounds):
            for result, left_out in ((without, ("--disable", path)), (with_it, ())):
                started = Configuration(path, nano_run=(*precision, *left_out))
                result.add(run_configuration(model, started, trial))
        pairs = zip(without.fastest_fifths, with_it.fastest_fifths, strict=True)
        ratios = [a / b for a, b in pairs]
        before, after = (statistics.median(r.fastest_fifths) for r in (without, with_it))
        spread = (statistics.median(ratios), min(ratios), max(ratios))
        rows.append((f"`{path}`", MODELS[model].title, before, after, spread))
    title = f"nano-run with all faster paths against all but one, {options.precision}"
    unit = "processor ms/step" if options.processor_time else "ms/step"
    table = Table("paths", title, _columns(unit), tuple(rows))
    print(format_table(table))
    if options.json:
        write_record(options.json, "paths", [table])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", default=",".join(PAIRS), help="PATH:MODEL, commas between")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--blocks", type=int, default=4, help="timed blocks of steps per process")
    parser.add_argument("--processor-time", action="store_true", help="time all threads instead")
    parser.add_argument("--precision", default="auto", help="as for nano-run")
    add_json_option(parser, "paths")
    options = parser.parse_args()
    for pair in options.pairs.split(","):
        if pair.count(":") != 1 or pair.split(":")[1] not in MODELS:
            parser.error(f"{pair!r} is not PATH:MODEL; models are {', '.join(MODELS)}")
    return options


if __name__ == "__main__":
    main()
