"""Train one model of the suite, and print its step times as JSON on the last line.

    python benchmarks/train_one.py MODEL [--blocks N] [--batch-factor N]

It is a plain script, because the comparison is about how it is started. The switches are for
settings that need a line in the script: a policy, or a call of another patch.
"""

from __future__ import annotations

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
    from collections.abc import Callable
    from typing import Any

    from timed_training import Run


def main() -> None:
    """Train the model from the command line."""
    parser = parser_of(__doc__.splitlines()[0], MODELS)
    parser.add_argument("--policy", help="set this dtype policy, as a script would")
    parser.add_argument("--rewrite", action="store_true", help="let TensorFlow rewrite the graph")
    parser.add_argument("--bigdl", metavar="PRECISION", help="call BigDL-Nano's patch first")
    options = parser.parse_args()
    _prepare(options)
    print_times(MODELS[options.model], options.blocks, lambda: _start(options))


def _prepare(options: argparse.Namespace) -> None:
    if options.bigdl:
        from bigdl.nano.tf import patch_tensorflow

        patch_tensorflow(precision=options.bigdl)
    if options.policy:
        from tensorflow import keras

        keras.mixed_precision.set_global_policy(options.policy)
    import tensorflow as tf

    if options.rewrite:
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})
    tf.keras.utils.set_random_seed(1)


def _start(options: argparse.Namespace) -> Run:
    import tensorflow as tf

    model, clock = MODELS[options.model], clock_of(options)
    built, batch = model.build(), model.batch()
    if options.batch_factor > 1:
        batch = tf.nest.map_structure(lambda x: x.repeat(options.batch_factor, axis=0), batch)
    if model.is_loop:
        return timed_steps(_loop_step(built, batch), clock)
    if model.is_short:
        return timed_steps(short_fit(built, *batch), clock)

    class Callback(EpochClock, tf.keras.callbacks.Callback):  # type: ignore[misc]
        """Times epochs in TensorFlow's Keras."""

    batches = _endless(batch)
    return timed_fit(built, lambda: batches, lambda: Callback(clock))


def _endless(batch: tuple[Any, Any]) -> Any:
    import tensorflow as tf

    options = tf.data.Options()
    # The autotuning thread may delay the end of `fit` for seconds, which should not be timed here.
    options.autotune.enabled = False
    return tf.data.Dataset.from_tensors(batch).cache().repeat().with_options(options)


def _loop_step(model: Any, batch: tuple[Any, Any]) -> Callable[[], Any]:
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

    return lambda: step(inputs, labels)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Time steps as in a long training.
    os.environ.setdefault("NANO_INIT_COMPILE_SOON", "1")
    main()
