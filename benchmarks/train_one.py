"""Train one model of the suite, and print its step times as JSON on the last line.

    python benchmarks/train_one.py MODEL [--blocks N] [--batch-factor N]

It is a plain script, because the comparison is about how it is started. The switches are for
settings that need a line in the script: a policy, or a call of another patch.
"""

from __future__ import annotations

import argparse
import json
import os
import time

from models import MODELS
from step_clock import add_clock_option, clock_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Run = Callable[[int, int], tuple[list[float], float]]

BLOCKS = 6


def main() -> None:
    """Train the model from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--blocks", type=int, default=BLOCKS)
    parser.add_argument("--batch-factor", type=int, default=1, help="factor of the batch size")
    parser.add_argument("--policy", help="set this dtype policy, as a script would")
    parser.add_argument("--rewrite", action="store_true", help="let TensorFlow rewrite the graph")
    parser.add_argument("--bigdl", metavar="PRECISION", help="call BigDL-Nano's patch first")
    add_clock_option(parser)
    options = parser.parse_args()
    _prepare(options)
    print(json.dumps(_train(options)))


def _prepare(options: argparse.Namespace) -> None:
    if options.bigdl:
        from bigdl.nano.tf import patch_tensorflow

        patch_tensorflow(precision=options.bigdl)
    if options.policy:
        from tensorflow import keras

        keras.mixed_precision.set_global_policy(options.policy)
    if options.rewrite:
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})


def _train(options: argparse.Namespace) -> dict[str, object]:
    import tensorflow as tf

    tf.keras.utils.set_random_seed(1)
    model = MODELS[options.model]
    started = time.perf_counter()
    built, batch = model.build(), model.batch()
    if options.batch_factor > 1:
        batch = tf.nest.map_structure(lambda x: x.repeat(options.batch_factor, axis=0), batch)
    start = _loop if model.is_loop else _short_fits if model.is_short else _fit
    run = start(built, batch, clock_of(options))
    run(1, 1)
    first = time.perf_counter() - started
    run(model.warm_up, 1)
    times, loss = run(model.steps, options.blocks)
    return {
        "steps": [t / model.steps * 1000 for t in times],
        "first": first * 1000,
        "peak_mb": _peak_mb(),
        "loss": loss,
    }


def _fit(model: Any, batch: tuple[Any, Any], clock: Callable[[], float]) -> Run:
    import tensorflow as tf

    class Clock(tf.keras.callbacks.Callback):  # type: ignore[misc]
        """Times epochs: a callback for each batch would prevent several steps per execution."""

        def __init__(self) -> None:
            super().__init__()
            self.times: list[float] = []

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            del epoch, logs
            self.started = clock()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            del epoch, logs
            self.times.append(clock() - self.started)

    options = tf.data.Options()
    # The autotuning thread may delay the end of `fit` for seconds, which should not be timed here.
    options.autotune.enabled = False
    batches = tf.data.Dataset.from_tensors(batch).cache().repeat().with_options(options)

    def run(steps: int, blocks: int) -> tuple[list[float], float]:
        clock = Clock()
        fitted = model.fit(
            batches, steps_per_epoch=steps, epochs=blocks, verbose=0, callbacks=[clock]
        )
        return clock.times, float(fitted.history["loss"][-1])

    return run


def _short_fits(model: Any, batch: tuple[Any, Any], clock: Callable[[], float]) -> Run:
    inputs, labels = batch

    def run(steps: int, blocks: int) -> tuple[list[float], float]:
        times = []
        for _ in range(blocks):
            started = clock()
            for _ in range(steps):
                fitted = model.fit(inputs, labels, len(inputs) // 2, verbose=0)
            times.append(clock() - started)
        return times, float(fitted.history["loss"][-1])

    return run


def _loop(model: Any, batch: tuple[Any, Any], clock: Callable[[], float]) -> Run:
    import tensorflow as tf

    inputs, labels = (tf.convert_to_tensor(part) for part in batch)
    loss_of = tf.keras.losses.SparseCategoricalCrossentropy()
    optimizer = tf.keras.optimizers.Adam()

    # In TensorFlow 2.10 AutoGraph's `zip` has no `strict`.
    @tf.function(autograph=False)
    def step(inputs: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(inputs, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    def run(steps: int, blocks: int) -> tuple[list[float], float]:
        times = []
        for _ in range(blocks):
            started = clock()
            for _ in range(steps):
                loss = step(inputs, labels)
            last = float(loss)
            times.append(clock() - started)
        return times, last

    return run


def _peak_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Time steps as in a long training.
    os.environ.setdefault("NANO_INIT_COMPILE_SOON", "1")
    main()
