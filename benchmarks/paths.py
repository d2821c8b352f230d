"""What each faster path brings alone, measured finely enough for a machine that others share.

    python benchmarks/paths.py [--pairs model:path,...] [--steps N]

Two copies of a model, one with the path and one without, take their steps in turn within one
process; the figure is the median over the pairs of steps, with its quartiles. `training.py`
measures whole configurations, each in its own process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from models import MODELS

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

WARM_UP = 5


def main() -> None:
    """Measure every pair in a process of its own; in that process, one pair."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    pairs = [
        f"{name}:{path}"
        for name, model in MODELS.items()
        for path in model.paths
        if not model.is_loop
    ]
    parser.add_argument("--pairs", default=",".join(pairs), help="MODEL:PATH, commas between")
    parser.add_argument("--steps", type=int, default=0, help="pairs of steps (default: by model)")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(_compare(*options.pairs.split(":"), options.steps))
        return
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environ = {**os.environ, "PYTHONPATH": root, "TF_CPP_MIN_LOG_LEVEL": "3"}
    for pair in options.pairs.split(","):
        command = [sys.executable, os.path.abspath(__file__), "--child", "--pairs", pair]
        command += ["--steps", str(options.steps)]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        lines = (done.stderr if done.returncode else done.stdout).strip().splitlines()
        print(lines[-1] if lines else pair, flush=True)


def _compare(name: str, path: str, steps: int) -> str:
    from nano_init.keras_patch.faster.registry import FASTER_PATHS, faster_path_replacements
    from nano_init.keras_patch.ledger import Ledger

    plain = _stepper(name)
    plain()
    ledger = Ledger()
    ledger.apply(faster_path_replacements(set(FASTER_PATHS) - {path}))
    faster = _stepper(name)
    faster()
    ledger.restore()
    times = [
        (_timed(plain), _timed(faster)) for _ in range(WARM_UP + (steps or MODELS[name].steps))
    ]
    ratios = sorted(a / b for a, b in times[WARM_UP:])
    low, middle, high = statistics.quantiles(ratios, n=4)
    before, after = (statistics.median(column) for column in zip(*times[WARM_UP:], strict=True))
    return (
        f"{name:14} {path:12} {before:8.2f} -> {after:8.2f} ms  "
        f"{middle:5.2f} times as fast (quartiles {low:.2f}-{high:.2f}, {len(ratios)} pairs)"
    )


def _timed(step: Callable[[], Any]) -> float:
    start = time.perf_counter()
    step()
    return (time.perf_counter() - start) * 1000


def _stepper(name: str) -> Callable[[], Any]:
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    model = MODELS[name].build()
    data = tf.data.Dataset.from_tensors(MODELS[name].batch()).cache().repeat()
    batches = iter(data)
    model._symbolic_build(data_batch=next(batches))
    model.make_train_function()
    return lambda: model.train_function(batches)


if __name__ == "__main__":
    main()
