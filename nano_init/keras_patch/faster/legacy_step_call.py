"""Call the steps of `fit`, `evaluate` and `predict` of Keras 2 (`tf_keras`) directly.

`tf.function` looks up at each call which of its graphs fits the arguments
(tensorflow/python/eager/polymorphic_function/tracing_compilation.py). Keras 2 calls a step with an
iterator alone, whose batches decide the graph. Here it is looked up once for iterators over equal
batches, see `step_call`. The step remains a `tf.function`, for a checkpoint and for the script.
"""

from __future__ import annotations

import functools
import weakref

from nano_init.frozen import frozen
from nano_init.keras_patch.faster.array_slices import is_default_strategy
from nano_init.keras_patch.ledger import Replacement
from nano_init.keras_patch.own_frames import drop_own_frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Model

__all__ = ["legacy_step_call_replacements"]

_NAMES = ("make_train_function", "make_test_function", "make_predict_function")

# The attribute of a step with its graph.
_KNOWN = "_nano_init_known_graph"


def legacy_step_call_replacements() -> Iterator[Replacement]:
    """Yield the replacements that call the steps of a model directly."""
    from tf_keras.src.engine.training import Model

    for name in _NAMES:
        yield Replacement(Model, name, _wrap_make_function(vars(Model)[name]))


def _wrap_make_function(make: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(make)
    def make_function(self: Model, *args: Any, **kwargs: Any) -> Any:
        from tensorflow.python.eager.polymorphic_function.polymorphic_function import Function

        function = make(self, *args, **kwargs)
        if type(function) is Function and is_default_strategy(self.distribute_strategy):
            function.__class__ = _straight_class()
        return function

    return make_function


@functools.cache
def _straight_class() -> Any:
    """Return the class of `tf.function` with a shortcut."""
    from tensorflow.python.eager.polymorphic_function.polymorphic_function import Function

    class StraightFunction(Function):  # type: ignore[misc]
        """A step of Keras that takes the shortcut if possible."""

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            try:
                if len(args) == 1 and not kwargs and _is_plain(args[0]):
                    return _call_straight(self, super().__call__, args[0])
                return super().__call__(*args, **kwargs)
            except BaseException as error:
                drop_own_frames(error)
                raise

    StraightFunction.__name__ = Function.__name__
    StraightFunction.__qualname__ = Function.__qualname__
    StraightFunction.__module__ = Function.__module__
    return StraightFunction


def _call_straight(function: Any, call: Callable[..., Any], data: Any) -> Any:
    known: _KnownGraph | None = vars(function).get(_KNOWN)
    if known is not None and (known := known.for_iterator(data)) is not None:
        setattr(function, _KNOWN, known)
        graph = known.graph
        return graph._call_flat([data._iterator_resource], graph.captured_inputs)
    outputs = call(data)
    setattr(function, _KNOWN, _graph_for(function, data))
    return outputs


@frozen
class _KnownGraph:
    """The graph of a step for iterators over equal batches.

    Args:
        iterator: A weak reference to the last iterator.
        spec: The specification of its batches.
        device: The device on which the graph was called.
        graph: A `ConcreteFunction`.
    """

    iterator: Callable[[], Any]
    spec: Any
    device: str
    graph: Any

    def for_iterator(self, data: Any) -> _KnownGraph | None:
        """Return the same graph for an iterator, or None if it may have another one."""
        import tensorflow as tf
        from tensorflow.python.eager import context

        if context.context().device_name != self.device:
            return None
        if self.iterator() is data:
            return self
        if data.element_spec != self.spec or tf.distribute.has_strategy():
            return None
        return _KnownGraph(weakref.ref(data), self.spec, self.device, self.graph)


def _graph_for(function: Any, data: Any) -> _KnownGraph | None:
    """Return the graph that `tf.function` has just called; None in a strategy."""
    import tensorflow as tf
    from tensorflow.python.eager import context

    if tf.distribute.has_strategy():
        return None
    graph = function.get_concrete_function(data)
    device = context.context().device_name
    return _KnownGraph(weakref.ref(data), data.element_spec, device, graph)


def _is_plain(data: Any) -> bool:
    """Say whether a step is called eagerly with an iterator on one device."""
    import tensorflow as tf
    from tensorflow.python.data.ops.iterator_ops import OwnedIterator

    return (
        type(data) is OwnedIterator
        and tf.executing_eagerly()
        and not tf.config.functions_run_eagerly()
    )
