"""Custom training loops on several workers: one decorator on the step.

BigDL-Nano's names. A step that is not decorated runs on whole batches on every worker:
nothing is wrong, and nothing is gained.
"""

from __future__ import annotations

import functools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["nano", "nano_multiprocessing", "nano_multiprocessing_loss"]


def nano_multiprocessing(function: Any) -> Any:
    """Compute a training or test step on this worker's share of its batch.

    The decorator goes above or below `@tf.function`. Tensors and arrays among the arguments,
    however deep in dicts, lists and tuples, are the batch: each worker computes its own rows
    of them. Models, optimizers, metrics and other arguments stay. Floating results come back
    averaged over the batch, the same on all workers; metrics that the step updates count each
    row once. Outside a job of several workers the function stays as it is.

    Args:
        function: The step, or the `tf.function` of it.
    """
    if hasattr(function, "python_function") and hasattr(function, "_clone"):
        return function._clone(python_function=_on_share(function.python_function))
    return _on_share(function)


def nano_multiprocessing_loss(function: Any = None) -> Any:
    """Return a loss function as it is: the workers' gradients are weighted, not their losses.

    Args:
        function: The loss function; without one, a decorator comes back.
    """
    return nano_multiprocessing_loss if function is None else function


def nano(num_processes: int = 1) -> Callable[[Any], Any]:
    """Mark a training function whose steps are shared by workers.

    Args:
        num_processes: How many there shall be. It is `nano-run --nproc-per-node` that starts
            them; a script that runs alone is told so.
    """
    check_processes(num_processes)
    return lambda function: function


def check_processes(wanted: int) -> None:
    """Warn where a script wants other workers than it runs as.

    Args:
        wanted: How many it wants.
    """
    import warnings

    from nano_init.launch.joining import current_membership

    membership = current_membership()
    running = membership.workers if membership is not None else 1
    if wanted not in (None, running):
        warnings.warn(
            f"num_processes={wanted}, but the script runs as {running}: start it with nano-run "
            f"--nproc-per-node {wanted}",
            stacklevel=3,
        )


def _on_share(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run_on_share(*args: Any, **kwargs: Any) -> Any:
        from nano_init.launch.joining import current_membership

        membership = current_membership()
        if membership is None:
            return function(*args, **kwargs)
        import tensorflow as tf

        from nano_init.keras_patch.distribution.strategy import job_strategy

        tf.convert_to_tensor(0)  # the strategy is made at the first use of TensorFlow
        strategy = job_strategy()
        if strategy is None or not tf.distribute.in_cross_replica_context():
            return function(*args, **kwargs)
        batch, arguments = _split(args, kwargs)

        def step(rows: Any) -> Any:
            own_args, own_kwargs = arguments(rows)
            return _converted(function)(*own_args, **own_kwargs)

        def shared_step(*leaves: Any) -> Any:
            from nano_init.keras_patch.distribution.training import train_on_share

            return train_on_share(step, list(leaves), membership)

        return strategy.run(tf.autograph.experimental.do_not_convert(shared_step), args=batch)

    # AutoGraph leaves the wrapper's own source alone (see `decorator`).
    run_on_share.autograph_info__ = None  # type: ignore[attr-defined]
    return run_on_share


def _split(args: Any, kwargs: Any) -> tuple[list[Any], Callable[[Any], Any]]:
    """Return the tensors among arguments, and how to put their rows in their places."""
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
    import tensorflow as tf

    if tf.executing_eagerly():
        return function
    context = tf.__internal__.autograph.control_status_ctx()
    converted: Callable[..., Any] = tf.__internal__.autograph.tf_convert(
        function, context, convert_by_default=True
    )
    return converted
