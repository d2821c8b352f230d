"""All frameworks are timed by the same loop: a warm-up, then blocks of steps."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

# Train a model with few steps in a block.
PROGRAM = """
import sys
from dataclasses import replace
import models, train_one
name = sys.argv[1]
models.MODELS[name] = replace(models.MODELS[name], steps=2)
train_one.main()
"""


@pytest.fixture
def timed_training(benchmarks: Path):
    return importlib.import_module("timed_training")


class Clock:
    """A clock that only training moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Loss:
    """A loss that a framework still computes: reading it takes ten seconds."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def __float__(self) -> float:
        self.clock.now += 10
        return 0.25


def test_a_block_ends_when_its_last_loss_is_known(timed_training) -> None:
    clock = Clock()

    def step() -> Loss:
        clock.now += 1
        return Loss(clock)

    run = timed_training.timed_steps(step, clock)
    assert run(3, 2) == ([13.0, 13.0], 0.25)


def test_fit_trains_one_epoch_for_each_block(timed_training) -> None:
    clock, asked = Clock(), []

    class Model:
        """A model that takes a second for each step."""

        def fit(self, data, *, steps_per_epoch, epochs, verbose, callbacks):
            asked.append((data, verbose))
            for epoch in range(epochs):
                callbacks[0].on_epoch_begin(epoch)
                clock.now += steps_per_epoch
                callbacks[0].on_epoch_end(epoch, {})
            return SimpleNamespace(history={"loss": [0.5] * (epochs - 1) + [0.25]})

    data = iter(["first call", "second call"])
    callback = lambda: timed_training.EpochClock(clock)  # noqa: E731
    run = timed_training.timed_fit(Model(), lambda: next(data), callback)
    assert run(1, 1) == ([1.0], 0.25)
    assert run(4, 3) == ([4.0, 4.0, 4.0], 0.25)
    assert asked == [("first call", 0), ("second call", 0)]


def test_a_short_fit_has_two_batches(timed_training) -> None:
    asked = []

    class Model:
        """A model that only shows how it is trained."""

        def fit(self, *arguments, verbose):
            asked.append(arguments)
            return SimpleNamespace(history={"loss": [0.25]})

    step = timed_training.short_fit(Model(), [1, 2, 3, 4], [5, 6, 7, 8])
    assert step() == 0.25
    assert asked == [([1, 2, 3, 4], [5, 6, 7, 8], 2)]


def test_the_first_step_and_the_warm_up_are_not_among_the_timed_steps(
    timed_training, capsys
) -> None:
    asked = []

    def run(steps: int, blocks: int):
        asked.append((steps, blocks))
        return [steps * 0.002] * blocks, 0.25

    model = SimpleNamespace(steps=4, warm_up=5)
    timed_training.print_times(model, 3, lambda: run)
    assert asked == [(1, 1), (5, 1), (4, 3)]
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == {"steps", "first", "peak_mb", "loss"}
    assert (found["steps"], found["loss"]) == ([2.0, 2.0, 2.0], 0.25)


@pytest.mark.parametrize(
    ("arguments", "clock"), [([], "perf_counter"), (["--processor-time"], "process_time")]
)
def test_steps_are_timed_by_the_chosen_clock(timed_training, arguments, clock) -> None:
    options = timed_training.parser_of("Train.", ["tiny"]).parse_args(["tiny", *arguments])
    assert timed_training.clock_of(options) is getattr(time, clock)
    assert (options.blocks, options.batch_factor) == (6, 1)


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.parametrize("model", ["tiny", "loop", "short_fits"])
def test_each_kind_of_training_prints_its_times_as_json(benchmarks: Path, model: str) -> None:
    pytest.importorskip("tensorflow")
    command = [sys.executable, "-c", PROGRAM, model, "--blocks", "2"]
    environ = {**os.environ, "PYTHONPATH": str(benchmarks)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found["steps"]) == 2
    assert found["loss"] > 0
