"""Custom training loops on several workers: one decorator on the step.

The names are BigDL-Nano's. A step without the decorator runs on whole batches on every worker: the
result is correct, but not faster.
"""

from __future__ import annotations

import functools

from nano_init.keras_patch.own_frames import without_own_frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["nano_multiprocessing", "nano_multiprocessing_loss"]


def nano_multiprocessing(function: Any) -> Any:
    """Compute a training or test step on this worker's shard of the batch.

    The decorator goes above or below `@tf.function`. Tensors and arrays among the arguments,
    however deep in dicts, lists and tuples, are the batch, of which each worker computes its own
    rows. Models, optimizers, metrics and other arguments are passed unchanged. Floating-point
    results are averaged over the batch and are the same on all workers. Results with one row per
    row of the batch, such as predictions and unreduced losses, are returned with all rows. Metrics
    that the step updates count each row once, and what it reads from them is of the whole batch.
    Outside a job of several workers the decorator has no
    effect.

    Args:
        function: The step, as a function or a `tf.function`.
    """
    if hasattr(function, "python_function") and hasattr(function, "_clone"):
        return function._clone(python_function=_on_shard(function.python_function))
    return _on_shard(function)


def nano_multiprocessing_loss(
    function: Any = None, *, name: str | None = None, reduction: str | None = None, **options: Any
) -> Any:
    """Turn a function that returns a loss per row into a loss: the mean over the whole batch.

    Args:
        function: A function of targets and outputs; without one, a decorator is returned.
        name: The loss's name.
        reduction: One of Keras's reductions; BigDL-Nano's `"none"` means the mean, too.
        **options: Further arguments for the function.
    """
    if function is None:
        return functools.partial(
            nano_multiprocessing_loss, name=name, reduction=reduction, **options
        )
    from keras.src.losses.losses import LossFunctionWrapper

    mean = "sum_over_batch_size"
    reduction = mean if reduction in (None, "none") else reduction
    return LossFunctionWrapper(function, reduction, name or function.__name__, **options)


def _on_shard(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run_on_shard(*args: Any, **kwargs: Any) -> Any:
        from nano_init.distributed.worker_startup import current_membership

        membership = current_membership()
        if membership is None:
            return _converted(function)(*args, **kwargs)
        own_step = _converted(function)  # AutoGraph is off inside `Strategy.run`
        import tensorflow as tf

        from nano_init.distributed.job_strategy import is_in_replica, job_strategy

        tf.convert_to_tensor(0)  # the strategy is created at the first use of TensorFlow
        strategy = job_strategy()
        if strategy is None or is_in_replica():
            return own_step(*args, **kwargs)
        batch, arguments = _split(args, kwargs)

        def step(rows: Any) -> Any:
            own_args, own_kwargs = arguments(rows)
            return own_step(*own_args, **own_kwargs)

        def sharded_step(*leaves: Any) -> Any:
            from nano_init.distributed.training import train_on_shard

            return train_on_shard(step, list(leaves), membership, joins_rows=True)

        return strategy.run(tf.autograph.experimental.do_not_convert(sharded_step), args=batch)

    # AutoGraph does not convert the wrapper itself (see `decorator`).
    run_on_shard.autograph_info__ = None  # type: ignore[attr-defined]
    shown: Callable[..., Any] = without_own_frames(run_on_shard)
    return shown


def _split(args: Any, kwargs: Any) -> tuple[list[Any], Callable[[Any], Any]]:
    """Return the tensors among arguments, and a function that puts rows in their places."""
    import numpy as np
    import tensorflow as tf
    from keras.src import tree

    kinds = (tf.Tensor, tf.SparseTensor, tf.RaggedTensor, np.ndarray)
    flat = tree.flatten((args, kwargs))
    places = [i for i, leaf in enumerate(flat) if isinstance(leaf, kinds)]
    batch = [flat[i] for i in places]

    def arguments(rows: Any) -> Any:
        leaves = list(flat)
        for place, row in zip(places, rows, strict=True):
            leaves[place] = row
        return tree.pack_sequence_as((args, kwargs), leaves)

    return [
        tf.convert_to_tensor(leaf) if isinstance(leaf, np.ndarray) else leaf for leaf in batch
    ], arguments


def _converted(function: Callable[..., Any]) -> Callable[..., Any]:
    import sys

    if "tensorflow" not in sys.modules:
        return function
    import tensorflow as tf

    if tf.executing_eagerly():
        return function
    context = tf.__internal__.autograph.control_status_ctx()
    converted: Callable[..., Any] = tf.__internal__.autograph.tf_convert(
        function, context, convert_by_default=True
    )
    return converted
