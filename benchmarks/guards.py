"""Overhead of the guards of `patch_tensorflow` in a training step, against a bare policy.

    python benchmarks/guards.py [--rounds 40] [--json FILE]

Both variants of a model are built, compiled and warmed up in one process, then timed alternately,
a few steps at a time. Ratios are of neighbouring turns, so that other load on the machine affects
both. The faster paths are switched off. Processor time counts all threads, and depends little on
other processes. The guards act while a step is traced; a ratio above 1.02 would mean that they add
operations to the graph. Three more rows show the overhead outside of a traced step: single
operations and a small custom loop in eager mode, and tracing itself.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from record import Column, Table, add_json_option, format_table, write_record

if TYPE_CHECKING:
    from collections.abc import Callable

_TITLE = "A training step under the patch without faster paths, against a bare policy"


@dataclass(frozen=True)
class Cost:
    """Ratios of patched to bare steps, one per round, and the time of the bare step."""

    model: str
    bare_milliseconds: float
    ratios: tuple[float, ...]
    processor_ratios: tuple[float, ...]


def _mlp() -> tuple[Any, ...]:
    from keras import Sequential, layers

    hidden = [layers.Dense(1024, activation="relu") for _ in range(3)]
    return Sequential([*hidden, layers.Dense(10, activation="softmax")]), (256, 512), 10


def _small_mlp() -> tuple[Any, ...]:
    from keras import Sequential, layers

    hidden = [layers.Dense(64, activation="relu") for _ in range(2)]
    return Sequential([*hidden, layers.Dense(10, activation="softmax")]), (128, 784), 10


def _cnn() -> tuple[Any, ...]:
    from keras import Sequential, layers

    blocks = []
    for filters in (32, 64):
        blocks += [layers.Conv2D(filters, 3), layers.BatchNormalization(), layers.ReLU()]
        blocks += [layers.MaxPooling2D()]
    head = [layers.GlobalAveragePooling2D(), layers.Dense(10, activation="softmax")]
    return Sequential([*blocks, *head]), (32, 32, 32, 3), 10


def _encoder() -> tuple[Any, ...]:
    import keras
    from keras import layers

    inputs = keras.Input((32, 128))
    x = layers.LayerNormalization()(inputs + layers.MultiHeadAttention(4, 32)(inputs, inputs))
    x = layers.LayerNormalization()(x + layers.Dense(128)(layers.Dense(512, "gelu")(x)))
    outputs = layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, outputs), (32, 32, 128), 10


def _lstm() -> tuple[Any, ...]:
    from keras import Sequential, layers

    return Sequential([layers.LSTM(128), layers.Dense(10, activation="softmax")]), (32, 16, 64), 10


def _embedding() -> tuple[Any, ...]:
    from keras import Input, Sequential, layers

    head = [layers.Flatten(), layers.Dense(64, "relu"), layers.Dense(10, activation="softmax")]
    return Sequential([Input((20,)), layers.Embedding(50000, 32), *head]), (256, 20), 10


MODELS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "MLP 3x1024, batch 256": _mlp,
    "MLP 2x64, batch 128": _small_mlp,
    "CNN, 32x32, batch 32": _cnn,
    "encoder 128, sequence 32": _encoder,
    "LSTM 128, 16 steps": _lstm,
    "embedding 50,000x32": _embedding,
}


def _trainer(
    make: Callable[[], tuple[Any, ...]], is_patched: bool
) -> Callable[[], tuple[float, float]]:
    """Return a function that runs some steps and returns the clock and processor ms of one."""
    import keras
    import tensorflow as tf

    from nano_init import patch_tensorflow, unpatch_tensorflow

    keras.utils.set_random_seed(0)
    if is_patched:
        patch_tensorflow("mixed_bfloat16", disable="all")
    else:
        keras.config.set_dtype_policy("mixed_bfloat16")
    model, shape, classes = make()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = tf.random.uniform(shape), tf.random.uniform(shape[:1], 0, classes, tf.int32)
    data = tf.data.Dataset.from_tensors((x, y)).repeat()
    options = tf.data.Options()
    options.autotune.enabled = False
    iterator = iter(data.with_options(options))
    model.train_on_batch(x, y)
    step = model.train_function
    step(iterator)
    unpatch_tensorflow()
    keras.config.set_dtype_policy("float32")

    def run(seconds: float = 0.05) -> tuple[float, float]:
        start, used, count = time.perf_counter(), time.process_time(), 0
        while (elapsed := time.perf_counter() - start) < seconds:
            step(iterator)
            count += 1
        return elapsed / count * 1000, (time.process_time() - used) / count * 1000

    return run


def measure(name: str, rounds: int) -> Cost:
    """Time both variants of a model alternately.

    Args:
        name: a key of `MODELS`.
        rounds: the number of times that each is timed, after one uncounted round.
    """
    bare, patched = (_trainer(MODELS[name], is_patched) for is_patched in (False, True))
    pairs = []
    for number in range(rounds + 1):
        # Each variant goes first every other time.
        order = (bare, patched) if number % 2 else (patched, bare)
        times = {run: run() for run in order}
        pairs.append((times[bare], times[patched]))
    counted = pairs[1:]
    wall, processor = (tuple(b[i] / a[i] for a, b in counted) for i in (0, 1))
    return Cost(name, statistics.median(a[0] for a, _ in counted), wall, processor)


def _operations() -> Callable[[], float]:
    """Return a function that runs 400 eager operations and returns the processor time of one."""
    import tensorflow as tf

    x, w = tf.random.normal((8, 16)), tf.Variable(tf.random.normal((16, 16)))

    def run() -> float:
        used = time.process_time()
        for _ in range(100):
            y = tf.matmul(x, w)
            y = tf.nn.relu(y + 1.0)
            tf.reduce_sum(y)
        return (time.process_time() - used) / 400 * 1000

    return run


def _eager_loop() -> Callable[[], float]:
    """Return a function that trains a small model eagerly for 10 steps, and times one."""
    import keras
    import tensorflow as tf

    model = keras.Sequential([keras.layers.Dense(32, "relu"), keras.layers.Dense(4)])
    optimizer, loss = keras.optimizers.SGD(0.1), keras.losses.MeanSquaredError()
    x, y = tf.random.normal((32, 16)), tf.random.normal((32, 4))
    model(x)

    def run() -> float:
        used = time.process_time()
        for _ in range(10):
            with tf.GradientTape() as tape:
                value = loss(y, model(x))
            gradients = tape.gradient(value, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return (time.process_time() - used) / 10 * 1000

    return run


def _tracing() -> Callable[[], float]:
    """Return a function that traces a training step of the encoder, forward and backward."""
    import tensorflow as tf

    model, shape, _ = _encoder()
    x = tf.random.uniform(shape)
    model(x)

    def run() -> float:
        used = time.process_time()

        @tf.function
        def step(x: Any) -> Any:
            with tf.GradientTape() as tape:
                value = tf.reduce_sum(model(x) ** 2)
            return tape.gradient(value, model.trainable_variables)

        step.get_concrete_function(x)
        return (time.process_time() - used) * 1000

    return run


OUTSIDE: dict[str, Callable[[], Callable[[], float]]] = {
    "one eager operation": _operations,
    "eager loop, MLP 32-4, one step": _eager_loop,
    "tracing the encoder's step": _tracing,
}


def measure_outside(name: str, rounds: int) -> Cost:
    """Time code outside of traced steps, alternately under the bare policy and the patch.

    Args:
        name: a key of `OUTSIDE`.
        rounds: the number of times that each is timed, after one uncounted round.
    """
    import keras

    from nano_init import patch_tensorflow, unpatch_tensorflow

    def in_turn(*, is_patched: bool) -> float:
        if is_patched:
            patch_tensorflow("mixed_bfloat16", disable="all")
        try:
            return patched() if is_patched else bare()
        finally:
            unpatch_tensorflow()

    keras.config.set_dtype_policy("mixed_bfloat16")
    bare = OUTSIDE[name]()
    keras.config.set_dtype_policy("float32")
    patch_tensorflow("mixed_bfloat16", disable="all")
    patched = OUTSIDE[name]()
    unpatch_tensorflow()
    pairs = []
    for number in range(rounds + 1):
        order = (False, True) if number % 2 else (True, False)
        times = {is_patched: in_turn(is_patched=is_patched) for is_patched in order}
        pairs.append((times[False], times[True]))
    ratios = tuple(b / a for a, b in pairs[1:])
    return Cost(name, statistics.median(a for a, _ in pairs[1:]), (), ratios)


def _quartiles(ratios: tuple[float, ...]) -> tuple[float, float, float] | None:
    if not ratios:
        return None
    low, middle, high = statistics.quantiles(ratios, n=4)
    return middle, low, high


def cost_table(costs: list[Cost]) -> Table:
    """Return all costs; the spread covers the middle half of the rounds."""
    columns = (
        Column("model"),
        Column("bare, ms/step", 2),
        Column("clock, patched / bare", 3),
        Column("processor time, patched / bare", 3),
    )
    rows = tuple(
        (c.model, c.bare_milliseconds, _quartiles(c.ratios), _quartiles(c.processor_ratios))
        for c in costs
    )
    return Table("guards", _TITLE, columns, rows)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--only", action="append", help="a model's name or its beginning")
    add_json_option(parser, "guards")
    options = parser.parse_args()
    chosen = [name for name in (*MODELS, *OUTSIDE) if name.startswith(tuple(options.only or ("",)))]
    if not chosen or options.rounds < 2:
        parser.error("--only names no model" if not chosen else "--rounds must be at least 2")
    costs = [
        measure(name, options.rounds) if name in MODELS else measure_outside(name, options.rounds)
        for name in chosen
    ]
    table = cost_table(costs)
    print(format_table(table))
    if options.json:
        write_record(options.json, "guards", [table], costs=[asdict(cost) for cost in costs])
    return 0


if __name__ == "__main__":
    sys.exit(main())
