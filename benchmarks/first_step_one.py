"""Run the first step of one model, and print the processor seconds of its phases as JSON.

    python benchmarks/first_step_one.py MODEL

It is a plain script, because the comparison is about how it is started. `first` is the first step
without its trace: graph optimization, XLA's compilation and the first execution; `step` is a later
step.
"""

from __future__ import annotations

import json
import resource
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_phases: dict[str, float] = {}


def _timed(name: str, run: Callable[[], Any]) -> Any:
    start = time.process_time()
    try:
        return run()
    finally:
        _phases[name] = _phases.get(name, 0.0) + time.process_time() - start


def main() -> None:
    """Train the model from the command line for two steps; evaluate and predict."""
    name = sys.argv[1]
    _timed("import_tf", lambda: __import__("tensorflow"))
    _timed("import_keras", lambda: __import__("keras"))
    _count_traces()
    step, evaluate, predict = _timed("build", lambda: _build(name))
    _timed("first", step)
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu, ended = sum(each.ru_utime + each.ru_stime for each in used), time.time()
    _phases["first"] -= _phases.get("trace", 0.0)
    traced = _phases.get("trace", 0.0)
    _timed("step", step)
    _timed("evaluate", evaluate)
    _timed("predict", predict)
    print(json.dumps({**_phases, "trace": traced, "cpu": cpu, "ended_at": ended}))


def _count_traces() -> None:
    from tensorflow.python.eager.polymorphic_function import tracing_compilation

    trace, depth = tracing_compilation.trace_function, [0]

    def counted(*args: Any, **kwargs: Any) -> Any:
        if depth[0]:
            return trace(*args, **kwargs)
        depth[0] += 1
        try:
            return _timed("trace", lambda: trace(*args, **kwargs))
        finally:
            depth[0] -= 1

    tracing_compilation.trace_function = counted


def _build(name: str) -> tuple[Callable[[], Any], ...]:
    import keras
    from models import MODELS

    keras.utils.set_random_seed(1)
    if name == "gan":
        return _gan()
    if name == "encoder6":
        from models import _encoder

        model, batch = _encoder(depth=6), MODELS["encoder"].batch()
    else:
        model, batch = MODELS[name].build(), MODELS[name].batch()
    step = _loop(model, batch) if MODELS.get(name, MODELS["tiny"]).is_loop else _fit(model, batch)
    return (
        step,
        lambda: model.evaluate(*batch, batch_size=len(batch[0]), verbose=0),
        lambda: model.predict(batch[0], batch_size=len(batch[0]), verbose=0),
    )


def _fit(model: Any, batch: tuple[Any, Any]) -> Callable[[], Any]:
    return lambda: model.fit(*batch, batch_size=len(batch[0]), verbose=0)


def _loop(model: Any, batch: tuple[Any, Any]) -> Callable[[], Any]:
    import keras
    import tensorflow as tf

    loss_of = keras.losses.SparseCategoricalCrossentropy()
    optimizer = keras.optimizers.Adam()

    @tf.function
    def step(inputs: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(inputs, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    inputs, labels = map(tf.constant, batch)
    return lambda: float(step(inputs, labels))


def _gan() -> tuple[Callable[[], Any], ...]:
    import keras
    import numpy as np
    import tensorflow as tf

    dense = keras.layers.Dense
    generator = keras.Sequential([dense(256, "relu"), dense(256, "relu"), dense(784, "tanh")])
    critic = keras.Sequential([dense(256, "relu"), dense(256, "relu"), dense(1)])
    optimizers = keras.optimizers.Adam(1e-4), keras.optimizers.Adam(1e-4)
    loss_of = keras.losses.BinaryCrossentropy(from_logits=True)

    @tf.function
    def step(real: Any) -> Any:
        noise = tf.random.normal((128, 64))
        with tf.GradientTape(persistent=True) as tape:
            fake = generator(noise, training=True)
            on_fake, on_real = critic(fake, training=True), critic(real, training=True)
            generator_loss = loss_of(tf.ones_like(on_fake), on_fake)
            critic_loss = loss_of(tf.ones_like(on_real), on_real)
            critic_loss += loss_of(tf.zeros_like(on_fake), on_fake)
        for model, optimizer, loss in (
            (generator, optimizers[0], generator_loss),
            (critic, optimizers[1], critic_loss),
        ):
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return critic_loss

    real = tf.constant(np.random.default_rng(0).standard_normal((128, 784), "float32"))
    noise = np.zeros((128, 64), "float32")
    return (
        lambda: float(step(real)),
        lambda: critic(real, training=False),
        lambda: generator.predict(noise, batch_size=128, verbose=0),
    )


if __name__ == "__main__":
    main()
