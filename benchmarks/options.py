"""Gain of the patch and its options for models dominated by overhead, not arithmetic.

    python benchmarks/options.py [--rounds N] [--json [FILE]]

The models are an embedding of 200,000 rows before a small network, trained with Adam, and a small
network alone. The variants of each are interleaved in one process. Figures are medians; ratios are
of pairs with plain Keras, with quartiles.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from typing import TYPE_CHECKING

from record import Column, Table, add_json_option, format_table, write_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

STEPS = {"embedding": 30, "tiny-mlp": 300}
OPTIONS: dict[str, dict[str, dict[str, Any] | None]] = {
    "embedding": {"plain Keras": None, "patched": {}, "--lazy-adam": {"lazy_adam": True}},
    "tiny-mlp": {
        "plain Keras": None,
        "patched": {},
        "--steps-per-execution auto": {"steps_per_execution": "auto"},
    },
}


def main() -> None:
    """Print one line per variant of each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="epochs of each variant")
    add_json_option(parser, "options")
    arguments = parser.parse_args()
    rows = []
    for name, variants in OPTIONS.items():
        epochs = {label: _epochs(name, options) for label, options in variants.items()}
        for epoch in epochs.values():
            epoch()
        times = [[epoch() for epoch in epochs.values()] for _ in range(arguments.rounds)]
        for label, column in zip(epochs, zip(*times, strict=True), strict=True):
            ratios = [row[0] / mine for row, mine in zip(times, column, strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            rows.append((name, label, statistics.median(column), (middle, low, high)))
    columns = (
        Column("model"),
        Column("variant"),
        Column("ms/step", 2),
        Column("times as fast (quartiles)", 2),
    )
    table = Table("options", "Options where the overhead is the cost", columns, tuple(rows))
    print(format_table(table))
    if arguments.json:
        write_record(arguments.json, "options", [table])


def _epochs(name: str, options: dict[str, Any] | None) -> Callable[[], float]:
    """Return a function that trains one epoch under the options and returns its ms/step."""
    import keras

    from nano_init import patch_tensorflow, unpatch_tensorflow

    def epoch() -> float:
        if options is not None:
            patch_tensorflow(**options)
        start = time.perf_counter()
        model.fit(x, y, batch_size=len(x) // STEPS[name], verbose=0)
        seconds = time.perf_counter() - start
        unpatch_tensorflow()
        return 1000 * seconds / STEPS[name]

    keras.utils.set_random_seed(1)
    build, x, y = _embedding() if name == "embedding" else _tiny_mlp()
    if options is not None:
        patch_tensorflow(**options)
    model = build()
    unpatch_tensorflow()
    return epoch


def _embedding() -> Any:
    import numpy as np
    from keras import Input, Sequential, layers

    def build() -> Any:
        hidden = [layers.Dense(256, "relu") for _ in range(2)]
        stack = [Input((26,), dtype="int32"), layers.Embedding(200_000, 64), layers.Flatten()]
        return _compiled(Sequential([*stack, *hidden, layers.Dense(2, "softmax")]))

    rng, samples = np.random.default_rng(0), 512 * STEPS["embedding"]
    return build, rng.integers(0, 200_000, (samples, 26)), rng.integers(0, 2, samples)


def _tiny_mlp() -> Any:
    import numpy as np
    from keras import Input, Sequential, layers

    def build() -> Any:
        hidden = [layers.Dense(64, "relu") for _ in range(2)]
        return _compiled(Sequential([Input((784,)), *hidden, layers.Dense(10, "softmax")]))

    rng, samples = np.random.default_rng(0), 128 * STEPS["tiny-mlp"]
    return build, rng.standard_normal((samples, 784), "float32"), rng.integers(0, 10, samples)


def _compiled(model: Any) -> Any:
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


if __name__ == "__main__":
    main()
