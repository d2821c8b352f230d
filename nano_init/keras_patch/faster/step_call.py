"""Call the steps of `fit` and `evaluate` directly, for models whose call overhead matters.

Keras wraps the outputs of a step in an optional and unwraps it with two eager ops, although with
one step per execution it is never empty (keras/src/backend/tensorflow/trainer.py,
`_make_function`). `tf.function` looks up at each call which of its graphs fits the arguments
(tensorflow/python/eager/polymorphic_function/tracing_compilation.py). Here a step returns its
outputs without an optional, and the graph for an iterator is looked up once.
"""

from __future__ import annotations

import functools
import weakref

from nano_init.keras_patch.faster.flat_step import flat_step_of
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Model

__all__ = ["StraightStep", "step_call_replacements"]


class _UnfitOutputsError(TypeError):
    """A step returns outputs that Keras's optional would have changed."""


def step_call_replacements() -> Iterator[Replacement]:
    """Yield the replacements that call the steps of `fit` and `evaluate` directly."""
    from keras.src.backend.tensorflow.trainer import TensorFlowTrainer

    name = "_make_function"
    yield Replacement(TensorFlowTrainer, name, _wrap_make_function(vars(TensorFlowTrainer)[name]))


def _wrap_make_function(make: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(make)
    def make_function(self: Model, step_function: Any) -> Any:
        function = make(self, step_function)
        if self.run_eagerly or self._distribute_strategy is not None:
            return function
        return functools.wraps(function)(StraightStep(self, function))

    return make_function


class StraightStep:
    """A train or test function of Keras that takes the shortcut if possible.

    Args:
        model: The model.
        function: Keras's own function of an iterator, or of a list of batches.
    """

    def __init__(self, model: Model, function: Callable[[Any], Any]) -> None:
        self._model = weakref.ref(model)
        self._function = function
        self._traced: Any = None
        self._is_unfit = False
        self._known: Any = None
        self._graph: Any = None
        self._device: Any = None

    def __call__(self, data: Any) -> Any:
        """Run a step on an iterator's next batch, and return its outputs."""
        if self._known is not None and self._known() is data and self._is_as_before():
            graph = self._graph
            return graph._call_flat([data._iterator_resource], graph.captured_inputs)
        if self._is_unfit or not self._applies(data):
            return self._function(data)
        return self._call_new(data)

    def _is_as_before(self) -> bool:
        import tensorflow as tf
        from tensorflow.python.eager import context

        return (
            tf.executing_eagerly()
            and not tf.config.functions_run_eagerly()
            and context.context().device_name == self._device
        )

    def _applies(self, data: Any) -> bool:
        import tensorflow as tf
        from tensorflow.python.data.ops.iterator_ops import OwnedIterator

        model = self._model()
        return (
            isinstance(data, OwnedIterator)
            and model is not None
            and model.steps_per_execution == 1
            and tf.executing_eagerly()
            and not tf.config.functions_run_eagerly()
            and model._distribute_strategy is None
            and not tf.distribute.has_strategy()
        )

    def _call_new(self, data: Any) -> Any:
        """Run a step on an iterator that is not the last one's, as `tf.function` does."""
        from tensorflow.python.eager import context

        if self._traced is None:
            self._traced = _traceable(self._function)
        try:
            outputs = self._traced(data)
        except _UnfitOutputsError:
            # No step has run: this is detected while tracing.
            self._is_unfit = True
            return self._function(data)
        self._graph = self._traced.get_concrete_function(data)
        self._device = context.context().device_name
        self._known = weakref.ref(data)
        return outputs


def _traceable(function: Callable[[Any], Any]) -> Any:
    import tensorflow as tf

    flat_step = flat_step_of(function)
    flat_specs: list[Any] = []

    def multi_step_on_iterator(iterator: Any) -> Any:
        batch = iterator.get_next()
        if not flat_specs:
            flat_specs.append(iterator.element_spec)
        # Batches of other shapes share the graph of Keras's inner function.
        is_first = iterator.element_spec == flat_specs[0]
        outputs = flat_step(batch) if flat_step and is_first else function([batch])
        _check_outputs(outputs)
        return outputs

    return tf.function(multi_step_on_iterator, autograph=False, reduce_retracing=True)


def _check_outputs(outputs: Any) -> None:
    """Check that an optional would return the outputs unchanged.

    It converts a list to one tensor, and numbers to tensors
    (tensorflow/python/data/util/structure.py, `normalize_element`).
    """
    import tensorflow as tf

    if isinstance(outputs, dict):
        for value in outputs.values():
            _check_outputs(value)
    elif not isinstance(outputs, tf.Tensor):
        raise _UnfitOutputsError(f"a step returns {type(outputs).__name__}")
