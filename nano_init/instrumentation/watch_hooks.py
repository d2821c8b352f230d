"""The hooks of a watch in TensorFlow and Keras, in the process that it observes.

The hooks are never removed: a sample or a reported run ends with its process.
"""

from __future__ import annotations

import functools
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import local
    from typing import Any, Protocol

    from nano_init.keras_patch.tensor_types import Model, Optimizer, Tensor

    class Observer(Protocol):
        """What the hooks report to; `watch.Watch` is one."""

        optimizers: list[Optimizer]
        depth: local
        batch: Any
        loss: Any
        waited: float
        input: list[str]

        def note_optimizer(self, optimizer: Optimizer) -> None:
            """Remember an optimizer that is being applied."""

        def note_input(self, source: Any) -> None:
            """Remember the source of the batches."""

        def look(self) -> None:
            """Mark the steps since the last check."""


__all__ = [
    "hook_functions",
    "hook_iterators",
    "hook_models",
    "hook_optimizers",
    "hook_tapes",
    "optimizer_class",
    "shift_seeds",
]


def hook_functions(watch: Observer) -> None:
    """Check for steps whenever an outermost call of a `tf.function` returns."""
    from tensorflow.python.eager.polymorphic_function.polymorphic_function import Function

    from nano_init.keras_patch.faster.step_call import StraightStep

    # Under nano-run the steps of `fit` bypass the call of `tf.function`.
    for owner in (Function, StraightStep):
        owner.__call__ = _wrap_call(watch, owner.__call__)  # type: ignore[method-assign]


def _wrap_call(watch: Observer, call: Callable[..., Any]) -> Callable[..., Any]:
    depth = watch.depth

    @functools.wraps(call)
    def watched_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(depth, "value", 0):
            return call(self, *args, **kwargs)
        depth.value = 1
        try:
            result = call(self, *args, **kwargs)
        finally:
            depth.value = 0
        if watch.optimizers and _is_eager():
            watch.look()
        return result

    return watched_call


def hook_optimizers(watch: Observer, name: str) -> None:
    """Observe which optimizers are applied, and check for steps in eager mode."""
    optimizer, method = optimizer_class(name)
    apply = getattr(optimizer, method)

    @functools.wraps(apply)
    def watched_apply(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        known = getattr(self, "iterations", None) is not None
        if known:
            watch.note_optimizer(self)
        result = apply(self, *args, **kwargs)
        if known and not getattr(watch.depth, "value", 0) and _is_eager():
            watch.look()
        return result

    setattr(optimizer, method, watched_apply)


def optimizer_class(name: str) -> tuple[Any, str]:
    """Return the base class of a package's optimizers, and the name of the method that steps."""
    if name == "keras":
        from keras.src.optimizers.base_optimizer import BaseOptimizer

        return BaseOptimizer, "apply"
    from tf_keras.optimizers import Optimizer

    return Optimizer, "apply_gradients"


def hook_iterators(watch: Observer) -> None:
    """Measure how long a Python loop waits for its batches."""
    from tensorflow.python.data.ops.iterator_ops import OwnedIterator

    following = OwnedIterator.__next__

    @functools.wraps(following)
    def timed_next(self: Any) -> Any:
        # `fit` has already reported its data, and makes a pipeline of it.
        if not watch.input and _is_eager():
            watch.note_input(getattr(self, "_dataset", None))
        start = time.perf_counter()
        batch = following(self)
        watch.waited += time.perf_counter() - start
        return batch

    OwnedIterator.__next__ = timed_next


def hook_fit(watch: Observer) -> None:
    """Observe the data passed to a model's `fit`."""
    from keras.models import Model

    # Looked up at each call: it may be patched later, and is restored exactly.
    @functools.wraps(Model.fit)
    def noted_fit(self: Model, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        watch.note_input(x)
        return super(Model, self).fit(x, *args, **kwargs)

    if "fit" not in vars(Model):
        Model.fit = noted_fit


def hook_models(watch: Observer) -> None:
    """Observe the batch size: the first axis of the input of an outermost model."""
    from keras.models import Model

    call = Model.__call__
    depth = watch.depth

    @functools.wraps(call)
    def noted_call(self: Model, *args: Any, **kwargs: Any) -> Any:
        if getattr(depth, "in_model", False):
            return call(self, *args, **kwargs)
        depth.in_model = True
        try:
            inputs = _first_leaf(args or tuple(kwargs.values()))
            if _is_eager():
                watch.batch = _leading_size(inputs) or watch.batch
            elif hasattr(inputs, "graph"):
                _assign_in_graph(watch, "batch", inputs, _dynamic_size)
            return call(self, *args, **kwargs)
        finally:
            depth.in_model = False

    Model.__call__ = noted_call


def hook_tapes(watch: Observer) -> None:
    """Keep the loss of each step: the target that a tape differentiates by variables."""
    from tensorflow.python.eager.backprop import GradientTape

    gradient = GradientTape.gradient

    @functools.wraps(gradient)
    def noted_gradient(self: Any, target: Any, sources: Any, *args: Any, **kwargs: Any) -> Any:
        leaf = _first_leaf(target)
        if _is_of_variables(sources) and getattr(leaf, "dtype", None) is not None:
            if _is_eager():
                watch.loss = _mean(leaf)
            else:
                _assign_in_graph(watch, "loss", leaf, _mean)
        return gradient(self, target, sources, *args, **kwargs)

    GradientTape.gradient = noted_gradient


def _assign_in_graph(
    watch: Observer, name: str, tensor: Tensor | None, value: Callable[[Tensor], Tensor]
) -> None:
    """Make the graph that is being traced write a number where Python can read it."""
    import tensorflow as tf

    if tensor is None or tf.distribute.has_strategy():
        return
    holder = getattr(watch, name)
    if not isinstance(holder, tf.Variable):
        with tf.init_scope():
            holder = tf.Variable(float("nan"), trainable=False, dtype=tf.float32)
        setattr(watch, name, holder)
    holder.assign(value(tensor))


def _mean(tensor: Tensor) -> Tensor:
    import tensorflow as tf

    return tf.reduce_mean(tf.cast(tensor, tf.float32))


def _dynamic_size(tensor: Tensor) -> Tensor:
    import tensorflow as tf

    if tensor.shape.rank == 0:
        return tf.constant(float("nan"))
    return tf.cast(tf.shape(tensor)[0], tf.float32)


def _is_of_variables(sources: Any) -> bool:
    leaf = _first_leaf(sources)
    return leaf is not None and hasattr(leaf, "assign")


def _first_leaf(nest: Any) -> Any:
    while isinstance(nest, (tuple, list, dict)):
        if not nest:
            return None
        nest = next(iter(nest.values())) if isinstance(nest, dict) else nest[0]
    return nest


def _leading_size(tensor: Any) -> int | None:
    shape = getattr(tensor, "shape", None)
    try:
        return int(shape[0]) if shape is not None and len(shape) else None
    except (TypeError, ValueError):  # unknown rank or size
        return None


def _is_eager() -> bool:
    from tensorflow.python.eager import context

    return bool(context.executing_eagerly())


def shift_seeds(offset: int) -> None:
    """Start from a seed, and shift the seeds that the script sets by the same offset."""
    import random
    from importlib import import_module

    import numpy as np
    import tensorflow as tf
    from keras.src.utils.rng_utils import set_random_seed

    def set_shifted_seed(seed: int) -> None:
        set_random_seed(seed + offset)

    # The same function under the names that scripts use; tf.keras has its own modules.
    for name in ("keras.utils", "keras._tf_keras.keras.utils"):
        import_module(name).set_random_seed = set_shifted_seed  # type: ignore[attr-defined]
    random.seed(offset)
    np.random.seed(offset)
    tf.random.set_seed(offset)  # `fit` shuffles with it
