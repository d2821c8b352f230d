"""Time the training of one model in this process, the same way in every framework.

A program adds its own options to `parser_of`, makes a `Run` and hands it to `print_times`, which
warms up, times blocks of steps and prints them as JSON on the last line.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from models import Model

    Clock = Callable[[], float]
    # Takes the steps of a block and the number of blocks, and returns the seconds of each block and
    # the last loss.
    Run = Callable[[int, int], tuple[list[float], float]]

__all__ = [
    "EpochClock",
    "clock_of",
    "parser_of",
    "print_times",
    "short_fit",
    "timed_fit",
    "timed_steps",
]


def parser_of(description: str, models: Iterable[str]) -> argparse.ArgumentParser:
    """Return a parser with the options that all programs have.

    Args:
        description: What the program does, in one line.
        models: The names of the models that it can train.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("model", choices=models)
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--batch-factor", type=int, default=1, help="factor of the batch size")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="time all threads of the process, not the clock: for a machine that others use too",
    )
    return parser


def clock_of(options: argparse.Namespace) -> Clock:
    """Return the clock, in seconds: processor time of the process, or elapsed time."""
    return time.process_time if options.processor_time else time.perf_counter


def print_times(model: Model, blocks: int, start: Callable[[], Run]) -> None:
    """Train a model, and print its times as JSON.

    Args:
        model: The model, which knows the steps of a block and of the warm-up.
        blocks: The number of timed blocks.
        start: Builds the model and its data, and returns the run. The time to the first step
            includes it.
    """
    started = time.perf_counter()
    run = start()
    run(1, 1)
    first = time.perf_counter() - started
    run(model.warm_up, 1)
    times, loss = run(model.steps, blocks)
    found = {
        "steps": [t / model.steps * 1000 for t in times],
        "first": first * 1000,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "loss": loss,
    }
    print(json.dumps(found))


def timed_steps(step: Callable[[], Any], clock: Clock) -> Run:
    """Return a run that calls a step.

    Args:
        step: Trains one step, and returns its loss.
        clock: The clock.
    """

    def run(steps: int, blocks: int) -> tuple[list[float], float]:
        times, last = [], 0.0
        for _ in range(blocks):
            started = clock()
            for _ in range(steps):
                loss = step()
            # A framework may still compute: reading the loss waits for it.
            last = float(loss)
            times.append(clock() - started)
        return times, last

    return run


class EpochClock:
    """The methods of a Keras callback that times epochs.

    A callback for each batch would prevent several steps per execution.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.times: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock."""
        del epoch, logs
        self.started = self.clock()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keep the time of the epoch."""
        del epoch, logs
        self.times.append(self.clock() - self.started)


def timed_fit(model: Any, batches: Callable[[], Any], callback: Callable[[], EpochClock]) -> Run:
    """Return a run that trains a Keras model by `fit`, one epoch for each block.

    Args:
        model: The compiled model.
        batches: Returns the data for a call of `fit`: batches without end.
        callback: Makes a callback that times the epochs of a call.
    """

    def run(steps: int, blocks: int) -> tuple[list[float], float]:
        timed = callback()
        fitted = model.fit(
            batches(), steps_per_epoch=steps, epochs=blocks, verbose=0, callbacks=[timed]
        )
        return timed.times, float(fitted.history["loss"][-1])

    return run


def short_fit(model: Any, inputs: Any, labels: Any) -> Callable[[], float]:
    """Return a step that is a call of a Keras model's `fit` with two batches.

    Args:
        model: The compiled model.
        inputs: The inputs of both batches.
        labels: Their labels.
    """

    def step() -> Any:
        return model.fit(inputs, labels, len(inputs) // 2, verbose=0).history["loss"][-1]

    return step
