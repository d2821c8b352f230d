"""Train one model by Keras on JAX, and print its step times as JSON on the last line.

    FOLDER/bin/python benchmarks/train_jax.py MODEL [--policy P] [--blocks N]

FOLDER is a virtual environment with keras, jax and numpy. The model is the one of `models.py`.
"""

from __future__ import annotations

import itertools
import os

from models import MODELS
from timed_training import (
    EpochClock,
    clock_of,
    parser_of,
    print_times,
    short_fit,
    timed_fit,
    timed_steps,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from typing import Any

    from timed_training import Run


def main() -> None:
    """Train the model from the command line."""
    parser = parser_of(__doc__.splitlines()[0], MODELS)
    parser.add_argument("--policy", help="set this dtype policy, as a script would")
    options = parser.parse_args()
    _prepare(options)
    print_times(MODELS[options.model], options.blocks, lambda: _start(options))


def _prepare(options: argparse.Namespace) -> None:
    import keras

    if options.policy:
        keras.mixed_precision.set_global_policy(options.policy)
    keras.utils.set_random_seed(1)


def _start(options: argparse.Namespace) -> Run:
    import keras

    model, clock = MODELS[options.model], clock_of(options)
    inputs, labels = (part.repeat(options.batch_factor, axis=0) for part in model.batch())
    built = model.build()
    if model.is_loop:
        return timed_steps(_loop_step(built, inputs, labels), clock)
    if model.is_short:
        return timed_steps(short_fit(built, inputs, labels), clock)

    class Callback(EpochClock, keras.callbacks.Callback):  # type: ignore[misc]
        """Times epochs in Keras on JAX."""

    def batches() -> Iterator[Any]:
        # Keras takes generators, not other iterators.
        return (each for each in itertools.repeat((inputs, labels)))

    return timed_fit(built, batches, lambda: Callback(clock))


def _loop_step(model: Any, inputs: Any, labels: Any) -> Callable[[], Any]:
    """Return the step of a loop as in Keras's guide to custom loops in JAX."""
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

    def next_step() -> Any:
        nonlocal state
        loss, state = step(state, inputs, labels)
        return loss

    return next_step


if __name__ == "__main__":
    os.environ["KERAS_BACKEND"] = "jax"
    main()
