"""Trace a step of `fit` or `evaluate` into one graph, without a function inside.

Keras puts a step in a `tf.function`, and calls it in a second one that takes the next batch from
the iterator (keras/src/backend/tensorflow/trainer.py, `_make_function`). Tracing passes each
variable to the inner function and from the outer one, and lists the inner function's side effects
twice. TensorFlow inlines the inner function before it runs the step. Here its code is traced in the
outer one, as `step_call` calls it: the same operations in the same order.
"""

from __future__ import annotations

import functools

from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Model

__all__ = ["flat_step_of", "flat_step_replacements"]

_ATTRIBUTE = "_nano_init_flat_step"


def flat_step_replacements() -> Iterator[Replacement]:
    """Yield the replacement that adds a flat step to the functions of `fit` and `evaluate`."""
    from keras.src.backend.tensorflow.trainer import TensorFlowTrainer

    name = "_make_function"
    yield Replacement(TensorFlowTrainer, name, _wrap_make_function(vars(TensorFlowTrainer)[name]))


def flat_step_of(function: Callable[[Any], Any]) -> Callable[[Any], Any] | None:
    """Return the step of a train or test function, to be traced by a caller; None if it has none.

    Args:
        function: What Keras's `_make_function` returned.
    """
    step: Callable[[Any], Any] | None = getattr(function, _ATTRIBUTE, None)
    return step


def _wrap_make_function(make: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(make)
    def make_function(self: Model, step_function: Callable[[Any], Any]) -> Any:
        function = make(self, step_function)
        # XLA compiles the inner function alone: it cannot take a batch from an iterator.
        if not self.run_eagerly and not self.jit_compile:
            setattr(function, _ATTRIBUTE, _make_step(self, step_function))
        return function

    return make_function


def _make_step(model: Model, step_function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    import tensorflow as tf
    from keras.src.backend.tensorflow import trainer

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def one_step_on_data(data: Any) -> Any:
        strategy = model.distribute_strategy
        outputs = strategy.run(step_function, args=(data,))
        outputs = trainer.reduce_per_replica(outputs, strategy, reduction="auto")
        return tf.nest.map_structure(_as_tensor, outputs)

    # Keras 3.12 and later.
    convert = getattr(model, "_autoconvert_optionals", None)
    step: Callable[[Any], Any] = convert(one_step_on_data) if convert else one_step_on_data
    return step


def _as_tensor(value: Any) -> Any:
    """Return an output as `tf.function` returns it; what it would refuse stays as it is."""
    import tensorflow as tf

    if value is None or tf.is_tensor(value):
        return value
    try:
        return tf.convert_to_tensor(value)
    except (TypeError, ValueError):
        return value
