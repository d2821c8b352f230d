"""Trace a step only once, by creating Keras's variables outside of the graph.

Keras builds an optimizer, and a model without known shapes, while `tf.function` traces the first
step. `tf.function` creates each such variable through a `cond` in that graph, and then traces the
step again without them (tensorflow/python/eager/polymorphic_function/polymorphic_function.py,
`_initialize` and `_call`). For a deep model that is half of the time to the first step. Here a
variable that Keras creates in the first trace of a `tf.function` is an eager variable, with the
same order, name and value as in Keras, and the first trace is the final graph.

One difference remains: side effects of Python code in a step, such as a `print`, happen once
instead of twice. If the code draws random numbers from Python's or NumPy's global generators, or
from a generator object that it refers to, the step is traced twice as in Keras, and the numbers are
the same.
"""

from __future__ import annotations

import functools

from nano_init.keras_patch.faster.traced_variables import (
    begin_first_trace,
    running_trace,
    wrap_creation,
)
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.faster.traced_variables import FirstTrace
    from nano_init.keras_patch.tensor_types import Layer

__all__ = ["one_trace_replacements"]


def one_trace_replacements() -> Iterator[Replacement]:
    """Yield the replacements that create Keras's variables outside of the traced graph."""
    from keras.layers import Layer
    from keras.src.backend.tensorflow.core import Variable
    from keras.src.random import seed_generator
    from tensorflow.python.eager.polymorphic_function.polymorphic_function import Function

    def wrapped(target: Any, name: str, wrap: Callable[..., Any]) -> Replacement:
        inherited = name not in vars(target)
        return Replacement(target, name, wrap(getattr(target, name)), inherited=inherited)

    yield wrapped(Function, "_initialize", _wrap_initialize)
    yield wrapped(Function, "_generate_scoped_tracing_options", _wrap_tracing_options)
    yield wrapped(Variable, "__init__", wrap_creation)
    yield wrapped(Layer, "_maybe_build", _wrap_maybe_build)
    yield wrapped(seed_generator, "global_seed_generator", _wrap_global_seed_generator)


def _wrap_initialize(initialize: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(initialize)
    def initialize_once(self: Any, args: Any, kwds: Any, add_initializers_to: Any = None) -> Any:
        with begin_first_trace(self.python_function) as trace:
            result = initialize(self, args, kwds, add_initializers_to)
            if trace.created and not self._created_variables:
                _make_up_for_second(self, trace)
            return result

    return initialize_once


def _make_up_for_second(function: Any, trace: FirstTrace) -> None:
    trace.effects.note()
    if trace.effects.has_drawn_numbers or trace.effects.has_drawn_from_objects():
        # The function believes that it created this variable, and traces again.
        function._created_variables.append(trace.created[0])
    else:
        trace.effects.draw_names_again()


def _wrap_tracing_options(generate: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(generate)
    def generate_tracing_options(self: Any, scope: Any, scope_type: Any) -> Any:
        trace = running_trace()
        return generate(self, trace.creator(scope) if trace else scope, scope_type)

    return generate_tracing_options


def _wrap_maybe_build(maybe_build: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(maybe_build)
    def build_noted(self: Layer, *args: Any, **kwargs: Any) -> Any:
        trace = running_trace()
        if self.built or trace is None:
            return maybe_build(self, *args, **kwargs)
        trace.effects.note()
        result = maybe_build(self, *args, **kwargs)
        if self.built:
            # There is no second trace that would build it again.
            trace.effects.forget()
        return result

    return build_noted


def _wrap_global_seed_generator(generator: Callable[[], Any]) -> Callable[[], Any]:
    @functools.wraps(generator)
    def global_seed_generator() -> Any:
        from keras.src.backend.common import global_state
        from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR

        trace = running_trace()
        if trace is None or global_state.get_global_attribute(GLOBAL_SEED_GENERATOR) is not None:
            return generator()
        trace.effects.note()
        result = generator()
        trace.effects.forget()
        return result

    return global_seed_generator
