"""Trace a step of Keras 2 (`tf_keras`) once, by creating its variables outside of the graph.

Keras 2 creates the variables of an optimizer and of metrics while `tf.function` traces the first
step, which then traces it again without them (see `one_trace`). They start with known values, and
Keras enters `tf.init_scope` for them. Here they are eager variables with the same order, name and
value, and the first trace is the final graph. Layers that are built in a step have random values;
then the step is traced twice as in Keras.

Side effects of Python code in a step, such as a `print`, happen once instead of twice. If the code
draws random numbers while it is traced, from a global generator, from a generator object that the
model refers to, or for the seeds of a layer, the step is traced twice, and the numbers are Keras's.
"""

from __future__ import annotations

import functools

from nano_init.keras_patch.faster.python_generators import reachable_generators, state_of
from nano_init.keras_patch.faster.trace_effects import read_numbers
from nano_init.keras_patch.faster.traced_variables import eager_variable
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Model

__all__ = ["legacy_one_trace_replacements"]


def legacy_one_trace_replacements() -> Iterator[Replacement]:
    """Yield the replacement that creates variables outside of the graph of a training step."""
    from tf_keras.src.engine.training import Model

    yield Replacement(Model, "train_step", _wrap_train_step(vars(Model)["train_step"]))


def _wrap_train_step(train_step: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(train_step)
    def train_step_once(self: Model, data: Any) -> Any:
        import tensorflow as tf

        if not _applies(self):
            return train_step(self, data)
        draws = _Draws(self)
        with tf.variable_creator_scope(draws.create):
            result = train_step(self, data)
        if draws.has_created and draws.have_changed():
            with tf.init_scope():
                # The function creates this one itself, and traces the step again.
                tf.Variable(0.0, trainable=False)
        return result

    return train_step_once


def _applies(model: Model) -> bool:
    """Say whether Keras's own step is traced for one device, and by `tf.function` alone."""
    import tensorflow as tf
    from tensorflow.python.framework.ops import executing_eagerly_outside_functions
    from tf_keras.src.engine.training import Model as LegacyModel

    return (
        not tf.executing_eagerly()
        and executing_eagerly_outside_functions()
        and type(model).train_step is LegacyModel.train_step
        and "train_step" not in vars(model)
        and not model.jit_compile
        and not tf.distribute.has_strategy()
        and not getattr(model.optimizer, "_mesh", None)
    )


class _Draws:
    """The random numbers that a model's step draws while it is traced, and its new variables.

    Args:
        model: The model.
    """

    def __init__(self, model: Model) -> None:
        self.has_created = False
        self._layers = tuple(model._flatten_layers())
        metrics = getattr(model.compiled_metrics, "_user_metrics", None)
        losses = getattr(model, "loss", None)
        reachable = reachable_generators((*self._layers, losses, metrics))
        self._generators = [(generator, state_of(generator)) for generator in reachable]
        self._before = self._read()

    def create(self, next_creator: Callable[..., Any], **options: Any) -> Any:
        """Create a variable, outside of the graph if Keras creates it with a known value."""
        import tensorflow as tf

        # Keras is in an init scope, which is eager.
        if not tf.executing_eagerly() or not _is_known(options.get("initial_value")):
            return next_creator(**options)
        if self.have_changed():
            return next_creator(**options)
        self.has_created = True
        return eager_variable(options)

    def have_changed(self) -> bool:
        """Say whether a second trace would draw other numbers than this one."""
        return self._read() != self._before or any(
            state_of(generator) != state for generator, state in self._generators
        )

    def _read(self) -> tuple[Any, ...]:
        generators = (getattr(layer, "_random_generator", None) for layer in self._layers)
        return read_numbers(), [getattr(generator, "_seed", None) for generator in generators]


def _is_known(value: Any) -> bool:
    """Say whether an initial value is the same inside and outside of the graph."""
    import tensorflow as tf
    from tf_keras.initializers import Ones, Zeros

    if isinstance(value, (tf.Tensor, tf.Variable)):
        return not tf.is_symbolic_tensor(value)
    return isinstance(getattr(value, "func", None), (Ones, Zeros))
