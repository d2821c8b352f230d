"""What each faster path contributes: `nano-run` with all paths against all but one.

    python benchmarks/paths.py [--pairs path:model,...] [--rounds N] [--precision P]

Each figure comes from its own process, with and without in turn; the ratio is taken round by
round. What a path contributes alone is less than the sum over all of them says, as they share
the same memory and threads.
"""

from __future__ import annotations

import argparse
import statistics

from figures import Result
from models import MODELS
from training import Configuration, run_configuration

from nano_init.protocol.faster_paths import PATH_RECORDS

PAIRS = tuple(f"{record.name}:{model}" for record in PATH_RECORDS for model in record.models)


def main() -> None:
    """Measure every pair and print its row."""
    options = _parse()
    precision = ("--precision", options.precision)
    print("| path | model | without, ms a step | with | faster (spread) |")
    print("| --- | --- | --- | --- | --- |")
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
        print(
            f"| `{path}` | {MODELS[model].title} | {before:.1f} | {after:.1f} "
            f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |",
            flush=True,
        )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", default=",".join(PAIRS), help="PATH:MODEL, commas between")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--blocks", type=int, default=4, help="timed blocks of steps a process")
    parser.add_argument("--precision", default="auto", help="as for nano-run")
    options = parser.parse_args()
    for pair in options.pairs.split(","):
        if pair.count(":") != 1 or pair.split(":")[1] not in MODELS:
            parser.error(f"{pair!r} is no PATH:MODEL; models are {', '.join(MODELS)}")
    return options


if __name__ == "__main__":
    main()
