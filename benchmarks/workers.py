"""What workers bring: one process with all cores' threads against a worker on each core.

    python benchmarks/workers.py [--models a,b] [--rounds N] [--workers N]
    python benchmarks/workers.py --reduce

Both train the same model by `fit` on the same batches through nano-run, each time in
processes of their own, in turn. The ratio is the one process's time a step over the workers',
taken within a round. `--reduce` times the sum of a gradient over the workers, by its size: by
TensorFlow's collective, and as a job on one host adds up, through shared memory.
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
    import keras  # noqa: F401 - the patch comes with it
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
    """Run this file under nano-run, and return what its chief wrote."""
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


def compare(names: list[str], rounds: int, workers: int, precision: str) -> None:
    """Time models in one process and in workers, in turn, and print the table."""
    print("| model | one process, ms a step | workers, ms a step | ratio |\n|---|---|---|---|")
    for name in names:
        alone, shared = [], []
        for _ in range(rounds):
            common = ["--precision", precision]
            alone.append(statistics.median(run(common, "--train", name)))
            flags = [*common, "--nproc-per-node", str(workers)]
            shared.append(statistics.median(run(flags, "--train", name)))
        ratios = sorted(a / b for a, b in zip(alone, shared, strict=True))
        print(
            f"| {name} | {statistics.median(alone):.1f} | {statistics.median(shared):.1f} | "
            f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) |",
            flush=True,
        )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="mlp,cnn-batchnorm,transformer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--reduce", action="store_true")
    parser.add_argument("--train", help=argparse.SUPPRESS)
    parser.add_argument("--into", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train(options.train, options.into)
    elif options.into:
        reduce(options.into)
    elif options.reduce:
        times = run(["--nproc-per-node", str(options.workers)], "--reduce")
        print(
            "| float32 numbers | TensorFlow's collective, ms | shared memory, ms |\n|---|---|---|"
        )
        for size, (collective, shared) in times.items():
            print(f"| {int(size):,} | {collective:.2f} | {shared:.2f} |")
    else:
        compare(options.models.split(","), options.rounds, options.workers, options.precision)


if __name__ == "__main__":
    main()
