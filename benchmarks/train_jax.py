"""Train one model by Keras on JAX, and print its step times as JSON on the last line.

    FOLDER/bin/python benchmarks/train_jax.py MODEL [--policy P] [--blocks N]

FOLDER is a virtual environment with keras, jax and numpy. The model is the one of `models.py`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import time

from models import MODELS
from step_clock import add_clock_option, clock_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Run = Callable[[int, int], tuple[list[float], float]]


def main() -> None:
    """Train the model from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--batch-factor", type=int, default=1, help="factor of the batch size")
    parser.add_argument("--policy", help="set this dtype policy, as a script would")
    add_clock_option(parser)
    options = parser.parse_args()
    print(json.dumps(_train(options)))


def _train(options: argparse.Namespace) -> dict[str, object]:
    import keras

    if options.policy:
        keras.mixed_precision.set_global_policy(options.policy)
    keras.utils.set_random_seed(1)
    model = MODELS[options.model]
    started = time.perf_counter()
    inputs, labels = (part.repeat(options.batch_factor, axis=0) for part in model.batch())
    start = _loop if model.is_loop else _short_fits if model.is_short else _fit
    run = start(model.build(), inputs, labels, clock_of(options))
    run(1, 1)
    first = time.perf_counter() - started
    run(model.warm_up, 1)
    times, loss = run(model.steps, options.blocks)
    return {
        "steps": [t / model.steps * 1000 for t in times],
        "first": first * 1000,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "loss": loss,
    }


def _fit(model: Any, inputs: Any, labels: Any, clock: Callable[[], float]) -> Run:
    import keras

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]
        """Times epochs."""

        def __init__(self) -> None:
            super().__init__()
            self.times: list[float] = []

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            del epoch, logs
            self.started = clock()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            del epoch, logs
            self.times.append(clock() - self.started)

    def run(steps: int, blocks: int) -> tuple[list[float], float]:
        times = Clock()
        batches = itertools.repeat((inputs, labels))
        fitted = model.fit(
            (each for each in batches),
            steps_per_epoch=steps,
            epochs=blocks,
            verbose=0,
            callbacks=[times],
        )
        return times.times, float(fitted.history["loss"][-1])

    return run


def _short_fits(model: Any, inputs: Any, labels: Any, clock: Callable[[], float]) -> Run:
    def run(steps: int, blocks: int) -> tuple[list[float], float]:
        times = []
        for _ in range(blocks):
            started = clock()
            for _ in range(steps):
                fitted = model.fit(inputs, labels, len(inputs) // 2, verbose=0)
            times.append(clock() - started)
        return times, float(fitted.history["loss"][-1])

    return run


def _loop(model: Any, inputs: Any, labels: Any, clock: Callable[[], float]) -> Run:
    """Return a loop as in Keras's guide to custom loops in JAX."""
    import jax
    import keras

    loss_of = keras.losses.SparseCategoricalCrossentropy()
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    inputs, labels = (jax.numpy.asarray(part) for part in (inputs, labels))

    def compute(trained: Any, fixed: Any, inputs: Any, labels: Any) -> Any:
        outputs, fixed = model.stateless_call(trained, fixed, inputs, training=True)
        return loss_of(labels, outputs), fixed

    @jax.jit
    def step(state: Any, inputs: Any, labels: Any) -> Any:
        trained, fixed, slots = state
        found = jax.value_and_grad(compute, has_aux=True)(trained, fixed, inputs, labels)
        (loss, fixed), gradients = found
        trained, slots = optimizer.stateless_apply(slots, gradients, trained)
        return loss, (trained, fixed, slots)

    state = [
        [variable.value for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            optimizer.variables,
        )
    ]

    def run(steps: int, blocks: int) -> tuple[list[float], float]:
        nonlocal state
        times = []
        for _ in range(blocks):
            started = clock()
            for _ in range(steps):
                loss, state = step(state, inputs, labels)
            last = float(loss)
            times.append(clock() - started)
        return times, last

    return run


if __name__ == "__main__":
    os.environ["KERAS_BACKEND"] = "jax"
    main()
