"""Create Keras's variables outside the graph while `tf.function` traces for the first time."""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref

from nano_init.keras_patch.faster.trace_effects import TraceEffects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from nano_init.keras_patch.tensor_types import Variable

__all__ = ["FirstTrace", "begin_first_trace", "eager_variable", "running_trace", "wrap_creation"]

_tracing = threading.local()

# The arguments that `tf.Variable` passes to creators and an eager variable accepts.
_TAKEN = (
    "initial_value",
    "trainable",
    "validate_shape",
    "caching_device",
    "name",
    "dtype",
    "constraint",
    "synchronization",
    "aggregation",
    "shape",
)


class FirstTrace:
    """The first trace of a `tf.function`, and the variables that Keras created in it.

    Args:
        function: The Python function that is traced.
    """

    def __init__(self, function: Any) -> None:
        self.created: list[weakref.ref[Any]] = []
        self.is_over = False
        self.is_creating = False
        self._create_in_graph: Callable[..., Any] | None = None
        self._refuse: Callable[..., Any] | None = None
        self.effects = TraceEffects(function)

    def creator(self, scope: Callable[..., Any]) -> Callable[..., Any]:
        """Return the creator of variables in the function's traces, instead of `scope`.

        Args:
            scope: The function's own creator: first one that creates variables in the graph,
                then one that refuses to.
        """
        if self._create_in_graph is not None:
            self._refuse = scope
            return scope
        self._create_in_graph = scope
        return self._create

    def _create(self, next_creator: Callable[..., Any], **kwargs: Any) -> Any:
        if self.is_creating and not self.is_over:
            variable = eager_variable(kwargs)
            self.created.append(weakref.ref(variable))
            return variable
        # As in a function that has created variables in the graph.
        later = self.is_over and self.created and self._refuse
        return (later or self._create_in_graph)(next_creator, **kwargs)  # type: ignore[misc]


def eager_variable(options: Mapping[str, Any]) -> Any:
    """Return a new variable, without asking the creators of the graph that is traced.

    Args:
        options: The arguments that `tf.Variable` passes to a creator.
    """
    from tensorflow.python.ops.resource_variable_ops import ResourceVariable

    return ResourceVariable(**{name: options.get(name) for name in _TAKEN})


@contextlib.contextmanager
def begin_first_trace(function: Any) -> Iterator[FirstTrace]:
    """Let Keras create variables outside of the graph inside the block.

    Args:
        function: The Python function that is traced.
    """
    outer = running_trace()
    _tracing.trace = trace = FirstTrace(function)
    try:
        yield trace
    finally:
        trace.is_over = True
        _tracing.trace = outer


def running_trace() -> FirstTrace | None:
    """Return the innermost first trace that this thread is in."""
    return getattr(_tracing, "trace", None)


def wrap_creation(create: Callable[..., Any]) -> Callable[..., Any]:
    """Return a constructor of Keras variables that creates outside of a graph's first trace."""

    @functools.wraps(create)
    def create_outside(self: Variable, initializer: Any, *args: Any, **kwargs: Any) -> None:
        trace = running_trace()
        if trace is None or trace.is_creating or not _applies(initializer):
            create(self, initializer, *args, **kwargs)
            return
        import tensorflow as tf

        trace.is_creating = True
        try:
            with tf.init_scope():
                create(self, initializer, *args, **kwargs)
        finally:
            trace.is_creating = False

    return create_outside


def _applies(initializer: Any) -> bool:
    import tensorflow as tf
    from keras.src.backend.common.stateless_scope import in_stateless_scope
    from tensorflow.python.framework.ops import executing_eagerly_outside_functions

    return (
        not in_stateless_scope()
        and not tf.distribute.has_strategy()
        and not tf.executing_eagerly()
        and executing_eagerly_outside_functions()
        and _has_one_value(initializer)
    )


def _has_one_value(initializer: Any) -> bool:
    """Say whether an initial value is the same inside and outside of a graph, without side effects.

    Args:
        initializer: The initializer of a Keras variable: a value, or a function of shape and
            dtype.
    """
    if isinstance(initializer, str):
        return initializer in ("zeros", "ones")
    module = getattr(initializer, "__module__", None) or ""
    if module.startswith("keras.src.initializers."):
        seed = getattr(initializer, "seed", None)
        is_seeded = seed is None or isinstance(seed, int)
        return is_seeded and _is_value(getattr(initializer, "value", 0))
    if module == "keras.src.random.seed_generator":
        return True
    if module.startswith("keras.src.layers.rnn."):
        # Biases with a forget gate of ones: the layer's own initializer is in the closure.
        cells = (cell.cell_contents for cell in getattr(initializer, "__closure__", None) or ())
        return all(_has_one_value(getattr(cell, "bias_initializer", None)) for cell in cells)
    return _is_value(initializer)


def _is_value(value: Any) -> bool:
    import numpy as np

    if isinstance(value, (list, tuple)):
        return all(_is_value(part) for part in value)
    return isinstance(value, (bool, int, float, np.ndarray, np.generic))
