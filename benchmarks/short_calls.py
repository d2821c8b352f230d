"""Time of short calls of `fit`, `evaluate` and `predict`, in plain Python and under nano-run.

    python benchmarks/short_calls.py [--calls "A;B"] [--rounds N] [--json]

A small model is called again and again, as in reinforcement learning. Each process times all calls;
plain Python and nano-run are interleaved in rounds, and ratios are computed within a round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from typing import TYPE_CHECKING

from own_process import figures_of_process
from record import Column, Table, add_json_option, format_table, write_record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from record import Cell

_ROWS, _FEATURES, _CLASSES = 256, 784, 10
_WARM_UP, _REPEATS = 10, 40

_COLUMNS = (
    Column("call"),
    Column("plain Python, ms", 1),
    Column("nano-run, ms", 1),
    Column("times as fast (spread)", 1),
)

# Takes the model, inputs and labels.
CALLS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "fit, two batches": lambda model, x, y: model.fit(x, y, _ROWS // 2, verbose=0),
    "fit, two batches, with a seed": lambda model, x, y: model.fit(x, y, _ROWS // 2, verbose=0),
    "fit, ten epochs": lambda model, x, y: model.fit(x, y, _ROWS // 2, epochs=10, verbose=0),
    "evaluate, two batches": lambda model, x, y: model.evaluate(x, y, _ROWS // 2, verbose=0),
    "predict, one row": lambda model, x, _: model.predict(x[:1], verbose=0),
    "predict, 256 rows": lambda model, x, _: model.predict(x, verbose=0),
}


def main() -> None:
    """Time the calls and print the table, or time them in this process."""
    options = _parse()
    names = options.calls.split(";")
    if options.here:
        print(json.dumps(_time_calls(names)))
        return
    plain: list[Mapping[str, float]] = []
    patched: list[Mapping[str, float]] = []
    for number in range(1, options.rounds + 1):
        print(f"round {number} of {options.rounds}", file=sys.stderr, flush=True)
        for found, nano_run in ((plain, None), (patched, ("--precision", "float32"))):
            arguments = ("--here", "--calls", options.calls)
            found.append(figures_of_process("short_calls.py", arguments, nano_run, os.environ))
    rows = [_row_of(name, plain, patched) for name in names]
    table = Table("short-calls", "Short calls of a small model", _COLUMNS, (*rows,))
    print(format_table(table))
    if options.json:
        write_record(options.json, "short-calls", [table])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", default=";".join(CALLS), help="names, semicolons between")
    parser.add_argument("--rounds", type=int, default=3)
    add_json_option(parser, "short-calls")
    parser.add_argument("--here", action="store_true", help="time the calls in this process")
    options = parser.parse_args()
    if unknown := sorted(set(options.calls.split(";")) - set(CALLS)):
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(CALLS)}")
    return options


def _row_of(
    name: str, plain: Sequence[Mapping[str, float]], patched: Sequence[Mapping[str, float]]
) -> tuple[Cell, ...]:
    medians = (statistics.median(figures[name] for figures in each) for each in (plain, patched))
    ratios = [before[name] / after[name] for before, after in zip(plain, patched, strict=True)]
    return (name, *medians, (statistics.median(ratios), min(ratios), max(ratios)))


def _time_calls(names: Sequence[str]) -> dict[str, float]:
    """Return the median time of each call in milliseconds."""
    import tensorflow as tf

    model, x, y = _model_and_rows()
    found = {}
    for name in names:
        tf.random.set_seed(1 if name.endswith("with a seed") else None)
        for _ in range(_WARM_UP):
            CALLS[name](model, x, y)
        times = []
        for _ in range(_REPEATS):
            started = time.perf_counter()
            CALLS[name](model, x, y)
            times.append(time.perf_counter() - started)
        found[name] = 1000 * statistics.median(times)
    return found


def _model_and_rows() -> tuple[Any, Any, Any]:
    import numpy as np
    from tensorflow.keras import Input, Sequential, layers

    hidden = [layers.Dense(64, "relu") for _ in range(2)]
    model = Sequential([Input((_FEATURES,)), *hidden, layers.Dense(_CLASSES, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((_ROWS, _FEATURES), "float32")
    return model, x, rng.integers(0, _CLASSES, _ROWS)


if __name__ == "__main__":
    main()
