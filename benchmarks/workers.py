"""Gain from several workers: one process with threads on all cores against one worker per core.

    python benchmarks/workers.py [--models a,b] [--rounds N] [--workers N]
    python benchmarks/workers.py --reduce

Both train the same model with `fit` on the same batches under nano-run, alternately and in new
processes each time. The ratio is the time per step of the single process divided by that of the
workers, within a round. `--reduce` times the all-reduce of a gradient by its size: with
TensorFlow's collective, and through shared memory as in a job on one host.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from record import Column, Table, add_json_option, format_table, write_record
from small_models import MODELS

WARM_UP = 8
SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)


def train(name: str, path: str) -> None:
    """Train a model, and write the milliseconds of each step; every worker runs this."""
    import keras

    model = MODELS[name]
    x, y = model.batch()
    steps = min(model.steps, 40) + WARM_UP
    built = model.build()

    class Clock(keras.callbacks.Callback):
        def on_train_begin(self, *_: object, **__: object) -> None:
            self.moments = [time.perf_counter()]

        def on_train_batch_end(self, *_: object, **__: object) -> None:
            self.moments.append(time.perf_counter())

    import tensorflow as tf

    clock = Clock()
    dataset = tf.data.Dataset.from_tensors((x, y)).repeat(steps)
    built.fit(dataset, verbose=0, shuffle=False, callbacks=[clock])
    pairs = zip(clock.moments, clock.moments[1:], strict=False)
    _write(path, [1000 * (b - a) for a, b in pairs][WARM_UP:])


def reduce(path: str) -> None:
    """Sum tensors over the workers, and write the milliseconds of both sums for each size."""
    import keras  # noqa: F401 - importing it applies the patch
    import tensorflow as tf

    from nano_init.distributed.all_reduce import all_reduce

    def by_collective(value):
        return tf.distribute.get_replica_context().all_reduce("SUM", value)

    tf.constant(0)
    times = {}
    for size in SIZES:
        value = tf.ones([size])
        sums = (_compiled(by_collective), _compiled(lambda value: all_reduce([value])[0]))
        moments = [[_milliseconds(add_up, value) for add_up in sums] for _ in range(25)]
        times[str(size)] = [statistics.median(each) for each in zip(*moments[5:], strict=True)]
    _write(path, times)


def _compiled(add_up):
    import tensorflow as tf

    strategy = tf.distribute.get_strategy()
    return tf.function(lambda value: strategy.run(add_up, args=(value,)))


def _milliseconds(add_up, value) -> float:
    start = time.perf_counter()
    add_up(value)[:1].numpy()
    return 1000 * (time.perf_counter() - start)


def _write(path: str, value: object) -> None:
    from nano_init.distributed.worker_startup import current_membership

    membership = current_membership()
    if membership is None or membership.index == 0:
        with open(path, "w") as file:
            json.dump(value, file)


def run(flags: list[str], *arguments: str) -> object:
    """Run this file under nano-run, and return the output of its chief."""
    start = "import sys; from nano_init.cli.run import main; sys.exit(main())"
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "result.json")
        subprocess.run(
            [sys.executable, "-c", start, "-q", *flags, __file__, "--into", path, *arguments],
            check=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        with open(path) as file:
            return json.load(file)


def compare(names: list[str], rounds: int, workers: int, precision: str) -> Table:
    """Return the times of models in one process and in workers, interleaved."""
    rows = []
    for name in names:
        alone, shared = [], []
        for _ in range(rounds):
            common = ["--precision", precision]
            alone.append(statistics.median(run(common, "--train", name)))
            flags = [*common, "--nproc-per-node", str(workers)]
            shared.append(statistics.median(run(flags, "--train", name)))
        ratios = sorted(a / b for a, b in zip(alone, shared, strict=True))
        spread = (statistics.median(ratios), ratios[0], ratios[-1])
        rows.append((name, statistics.median(alone), statistics.median(shared), spread))
    columns = (
        Column("model"),
        Column("one process, ms/step", 1),
        Column(f"{workers} workers, ms/step", 1),
        Column("ratio", 2),
    )
    return Table("workers", f"One process against workers, {precision}", columns, tuple(rows))


def reduce_table(workers: int) -> Table:
    """Return the times of sums over workers."""
    times = run(["--nproc-per-node", str(workers)], "--reduce")
    columns = (
        Column("float32 numbers"),
        Column("TensorFlow's collective, ms", 2),
        Column("shared memory, ms", 2),
    )
    rows = tuple((int(size), collective, shared) for size, (collective, shared) in times.items())
    return Table("reduce", f"A sum over {workers} workers", columns, rows)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="mlp,cnn-batchnorm,transformer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--reduce", action="store_true")
    add_json_option(parser, "workers")
    parser.add_argument("--train", help=argparse.SUPPRESS)
    parser.add_argument("--into", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train(options.train, options.into)
    elif options.into:
        reduce(options.into)
    else:
        names = options.models.split(",")
        table = (
            reduce_table(options.workers)
            if options.reduce
            else compare(names, options.rounds, options.workers, options.precision)
        )
        print(format_table(table))
        if options.json:
            write_record(options.json, "workers", [table])


if __name__ == "__main__":
    main()
