"""Cost of the first `fit` with batches of many sizes, in plain Python and under nano-run.

    python benchmarks/batch_sizes.py [--patterns "A;B"] [--configurations c,d] [--rounds N] [--json]

Each figure comes from its own process, which times one call of `fit` including tracing. The
configurations are interleaved in rounds, and ratios are computed within a round.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import time
from typing import TYPE_CHECKING

from own_process import figures_of_process
from record import Column, Table, add_json_option, format_table, write_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from record import Cell

_UNITS, _FEATURES, _CLASSES = 256, 32, 10
_WIDTH, _IDS, _ROWS = 128, 5000, 16

CONFIGURATIONS: dict[str, tuple[str, ...] | None] = {
    "plain": None,
    "nano-run": ("--precision", "float32"),
    "no islands": (
        *("--precision", "float32"),
        *("--disable", "activations,layer_norm,dropout,attention,cross_entropy"),
    ),
}


def _random(count: int, smallest: int, largest: int) -> list[int]:
    import random

    return random.Random(0).sample(range(smallest, largest + 1), count)


_COLUMNS = (
    Column("pattern"),
    Column("configuration"),
    Column("processor time, s", 2),
    Column("clock time, s", 2),
    Column("processor time, ratio (spread)", 2),
    Column("clock time, ratio (spread)", 2),
    Column("memory grown, MB"),
)

# The rows of each batch: of the MLP, or of sequences where lengths are given.
PATTERNS: dict[str, Callable[[], list[int]]] = {
    "growing, 16 sizes": lambda: list(range(200, 2001, 120)),
    "random, 120 sizes": lambda: _random(120, 200, 2000),
    "two sizes in turn": lambda: [512, 1024] * 60,
    "one size": lambda: [1024] * 100,
    "smaller last batch": lambda: ([1024] * 19 + [300]) * 5,
    "lengths, 16": lambda: list(range(16, 256, 15)),
    "lengths, 60": lambda: _random(60, 16, 255),
}


def main() -> None:
    """Time the patterns and print the table, or train on one of them."""
    options = _parse()
    if options.one:
        print(json.dumps(_train(options.one)))
        return
    rows: list[tuple[Cell, ...]] = []
    for number, pattern in enumerate(patterns := options.patterns.split(";"), 1):
        print(f"{pattern} ({number} of {len(patterns)})", file=sys.stderr, flush=True)
        rows += _measure(pattern, options.configurations, options.rounds)
    table = Table(
        "first-fit", "Cost of the first fit with batches of many sizes", _COLUMNS, (*rows,)
    )
    print(format_table(table))
    if options.json:
        write_record(options.json, "batch-sizes", [table])


def _measure(pattern: str, names: Sequence[str], rounds: int) -> list[tuple[Cell, ...]]:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            arguments, nano_run = ("--one", pattern), CONFIGURATIONS[name]
            found[name].append(
                figures_of_process("batch_sizes.py", arguments, nano_run, os.environ)
            )
    return [_row_of(pattern, name, found[name], found[names[0]]) for name in names]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patterns", default=";".join(PATTERNS), help="names, semicolons between")
    parser.add_argument(
        "--configurations", default="plain,nano-run", type=lambda text: text.split(",")
    )
    parser.add_argument("--rounds", type=int, default=5)
    add_json_option(parser, "batch-sizes")
    parser.add_argument("--one", choices=PATTERNS, help="train once, in this process")
    options = parser.parse_args()
    unknown = sorted(
        (set(options.patterns.split(";")) - set(PATTERNS))
        | (set(options.configurations) - set(CONFIGURATIONS))
    )
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    return options


def _row_of(
    pattern: str,
    name: str,
    found: Sequence[Mapping[str, float]],
    base: Sequence[Mapping[str, float]],
) -> tuple[Cell, ...]:
    def median(key: str) -> float:
        return statistics.median(figures[key] for figures in found)

    def ratio(key: str) -> Cell:
        ratios = [mine[key] / its[key] for mine, its in zip(found, base, strict=True)]
        return (statistics.median(ratios), min(ratios), max(ratios))

    seconds = (median("processor"), median("clock"))
    return (pattern, name, *seconds, ratio("processor"), ratio("clock"), median("grown_mb"))


def _train(pattern: str) -> dict[str, float]:
    import tensorflow as tf

    tf.keras.utils.set_random_seed(1)
    sizes = PATTERNS[pattern]()
    batches, build = (_ids, _encoder) if "lengths" in pattern else (_rows, _perceptron)
    model, data = build(), list(batches(sizes))
    model.compile("adam", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    # Exclude TensorFlow's first tensor and its thread pools from the timing.
    tf.zeros(1).numpy()
    grown, used, started = _peak_mb(), _processor_seconds(), time.perf_counter()
    fitted = model.fit((batch for batch in data), steps_per_epoch=len(data), verbose=0)
    return {
        "clock": time.perf_counter() - started,
        "processor": _processor_seconds() - used,
        "grown_mb": _peak_mb() - grown,
        "loss": float(fitted.history["loss"][-1]),
    }


def _perceptron() -> Any:
    from tensorflow.keras import Input, Sequential, layers

    stack = [Input((_FEATURES,))]
    for _ in range(2):
        stack += [layers.Dense(_UNITS, "gelu"), layers.LayerNormalization(), layers.Dropout(0.1)]
    return Sequential([*stack, layers.Dense(_CLASSES)])


def _rows(sizes: Sequence[int]) -> Iterator[tuple[Any, Any]]:
    import numpy as np

    rng = np.random.default_rng(0)
    for size in sizes:
        inputs = rng.standard_normal((size, _FEATURES), "float32")
        yield inputs, rng.integers(0, _CLASSES, size)


def _encoder() -> Any:
    from tensorflow.keras import Input, Model, layers

    inputs = Input((None,), dtype="int32")
    x = layers.Embedding(_IDS, _WIDTH)(inputs)
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(4, _WIDTH // 4)(y, y)])
        y = layers.Dense(4 * _WIDTH, "gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dropout(0.1)(layers.Dense(_WIDTH)(y))])
    return Model(inputs, layers.Dense(_CLASSES)(layers.GlobalAveragePooling1D()(x)))


def _ids(lengths: Sequence[int]) -> Iterator[tuple[Any, Any]]:
    import numpy as np

    rng = np.random.default_rng(0)
    for length in lengths:
        yield rng.integers(0, _IDS, (_ROWS, length)), rng.integers(0, _CLASSES, _ROWS)


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
