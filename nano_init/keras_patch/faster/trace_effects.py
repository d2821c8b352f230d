"""Readable state outside the graph that Python code in a traced step may change."""

from __future__ import annotations

import random

from nano_init.keras_patch.faster.python_generators import reachable_generators, state_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["TraceEffects", "read_numbers"]


class TraceEffects:
    """The random numbers and names that code consumes while it is traced.

    The numbers are those of Python's `random`, of NumPy's global generator, of the generator
    objects that the code refers to, and the seeds that TensorFlow draws for eager ops. The names
    are those that Keras numbers (`dense`, `dense_1`).

    Args:
        function: The function that will be traced.
    """

    def __init__(self, function: Any) -> None:
        self.has_drawn_numbers = False
        self._generators = [(each, state_of(each)) for each in reachable_generators(function)]
        self._drawn_names: dict[str, int] = {}
        self.forget()

    def note(self) -> None:
        """Count what has been drawn until now."""
        self.has_drawn_numbers = self.has_drawn_numbers or read_numbers() != self._numbers
        for name, count in _names().items():
            if count != self._names.get(name, 0):
                more = count - self._names.get(name, 0)
                self._drawn_names[name] = self._drawn_names.get(name, 0) + more
        self.forget()

    def forget(self) -> None:
        """Ignore what has been drawn since the last note: a second trace would not draw it."""
        self._numbers, self._names = read_numbers(), dict(_names())

    def has_drawn_from_objects(self) -> bool:
        """Say whether the code has drawn from a generator object since the trace began."""
        return any(state_of(generator) != before for generator, before in self._generators)

    def draw_names_again(self) -> None:
        """Advance the names as if the code were traced again."""
        names = _names()
        for name, count in self._drawn_names.items():
            names[name] += count


def read_numbers() -> tuple[Any, ...]:
    """Return the states of the global generators, and of the seeds of eager ops."""
    import numpy as np
    from tensorflow.python.eager import context

    _, keys, *rest = np.random.get_state(legacy=True)
    seeds = getattr(context.context(), "_rng", None)
    return random.getstate(), np.asarray(keys).tobytes(), *rest, seeds and seeds.getstate()


def _names() -> dict[str, int]:
    from keras.src.backend.common import global_state

    return global_state.get_global_attribute("object_name_uids") or {}
