"""Lower bound of the time of a training step on this machine, from the arithmetic alone.

    python benchmarks/limits.py [--models a,b] [--results FILE] [--json [FILE]]

The limit of a step is the time of its matrix products and convolutions at the speed of the fastest
matrix product measured here, plus one pass of the optimizer over weights and moments at the speed
of the fastest stream measured here. Activations count as free, so no program can reach the limit.
`--results` names the JSON file from `training.py` to compare with.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from typing import TYPE_CHECKING

from models import MODELS
from record import Column, Table, add_json_option, format_table, write_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

# Forward, gradient by the inputs, gradient by the weights.
_PASSES = 3

# Adam reads and writes a weight and two moments of four bytes, and reads a gradient.
_BYTES_PER_WEIGHT = 28

_TITLE = "Training steps against what the arithmetic alone would take"
_COLUMNS = (
    Column("model"),
    Column("GFLOP/step", 1),
    Column("limit float32, ms", 1),
    Column("limit bfloat16, ms", 1),
    Column("nano-run, ms", 1),
    Column("of the limit", percent=True),
)


def main() -> None:
    """Measure the peaks, count the models' operations, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = ",".join(name for name, model in MODELS.items() if not model.is_legacy)
    parser.add_argument("--models", default=known, help="comma-separated names")
    parser.add_argument("--results", metavar="FILE", help="the file from training.py --json")
    add_json_option(parser, "limits")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    wide, narrow, stream = measure_matmul("float32"), measure_matmul("bfloat16"), _stream()
    print(f"matrix products: {wide:.0f} GFLOP/s in float32, {narrow:.0f} in bfloat16")
    print(f"stream: {stream:.1f} GB/s\n")
    measured = _measured(options.results) if options.results else {}
    rows = []
    for name in options.models.split(","):
        model = MODELS[name].build()
        gigaflops = count_flops(model, len(MODELS[name].batch()[0])) / 1e9
        passes = _BYTES_PER_WEIGHT * model.count_params() / stream / 1e6
        limits = [gigaflops / peak * 1000 + passes for peak in (wide, narrow)]
        found = measured.get(name)
        share = None if found is None else limits[1] / found
        rows.append((MODELS[name].title, gigaflops, *limits, found, share))
    table = Table("limits", _TITLE, _COLUMNS, tuple(rows))
    print(format_table(table))
    if options.json:
        peaks = {"gflops_float32": wide, "gflops_bfloat16": narrow, "gigabytes_per_second": stream}
        write_record(options.json, "limits", [table], **peaks)


def measure_matmul(dtype: str, size: int = 2048) -> float:
    """Return the speed of a square matrix product, in GFLOP/s: the best of 15."""
    import tensorflow as tf

    left, right = (tf.cast(tf.random.normal((size, size)), dtype) for _ in range(2))
    return 2 * size**3 / 1e9 / _fastest(lambda: tf.matmul(left, right))


def count_flops(model: Any, batch: int) -> float:
    """Return the floating-point operations of one training step's products.

    Args:
        model: A built Keras model.
        batch: The number of samples.
    """
    return 2.0 * _PASSES * sum(_products(layer, batch) for layer in model.layers)


def _products(layer: Any, batch: int) -> float:
    """Return the number of multiplications in a layer's forward pass."""
    kind = type(layer).__name__
    if kind in ("LSTM", "GRU"):
        weights = math.prod(layer.cell.kernel.shape) + math.prod(layer.cell.recurrent_kernel.shape)
        return float(batch * layer.input.shape[1] * weights)
    if kind == "MultiHeadAttention":
        length, width = layer.output.shape[1:]
        weights = sum(math.prod(w.shape) for w in layer.weights if "kernel" in w.path)
        return float(batch * length * (weights + 2 * length * width))
    return sum(float(batch * count) for count in _kernel_products(layer, kind))


def _kernel_products(layer: Any, kind: str) -> Iterator[int]:
    kernel = getattr(layer, "kernel", None)
    if kernel is None:
        return
    # A transposed convolution multiplies every input; others compute every output.
    shape = layer.input.shape if "Transpose" in kind else layer.output.shape
    positions = math.prod(shape[1:-1])
    share = kernel.shape[2] if kind == "DepthwiseConv2D" else 1
    yield positions * math.prod(kernel.shape) // share * share


def _stream(megabytes: int = 256) -> float:
    """Return the speed of reading and writing a large array, in GB/s: the best of 15."""
    import tensorflow as tf

    values = tf.random.normal((megabytes * 2**18,))
    return 2 * megabytes * 2**20 / 1e9 / _fastest(lambda: values + 1.0)


def _fastest(call: Callable[[], Any]) -> float:
    times = []
    for _ in range(15):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def _measured(path: str) -> dict[str, float]:
    with open(path, encoding="utf-8") as file:
        results = json.load(file)["results"]
    return {
        r["model"]: statistics.median(r["fastest_fifths"])
        for r in results
        if r["configuration"] == "nano"
    }


if __name__ == "__main__":
    main()
