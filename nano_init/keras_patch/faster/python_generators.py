"""The generators of random numbers that a script's traced code can reach.

A generator object, such as `numpy.random.default_rng(0)`, shows whether Python code has drawn from
it while it was traced. Python cannot list all such objects cheaply. So this follows what traced
code refers to: closures, global names, bound objects, and the attributes of the script's own layers
and models.
"""

from __future__ import annotations

import contextlib
import functools
import random
import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["reachable_generators", "state_of"]

_LIBRARIES = ("keras.", "tf_keras.", "tensorflow.", "nano_init.", "numpy.")

# More objects than the code of a training refers to.
_MOST_OBJECTS = 5000


def reachable_generators(function: Any) -> list[Any]:
    """Return the generator objects of Python and NumPy that a function can draw from.

    Args:
        function: The function that will be traced.
    """
    kinds = _kinds()
    found: list[Any] = []
    waiting, seen = [function], set[int]()
    while waiting and len(seen) < _MOST_OBJECTS:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, kinds):
            found.append(value)
        else:
            waiting.extend(_referred(value))
    return found


def state_of(generator: Any) -> str:
    """Return the state of a generator object as text, which can be compared."""
    if isinstance(generator, random.Random):
        return repr(generator.getstate())
    if hasattr(generator, "get_state"):
        _, keys, *rest = generator.get_state(legacy=True)
        return repr((keys.tobytes(), rest))
    state = getattr(generator, "bit_generator", generator).state
    return repr([part.tobytes() if hasattr(part, "tobytes") else part for part in _leaves(state)])


def _leaves(state: Any) -> Iterator[Any]:
    if not isinstance(state, dict):
        yield state
        return
    for part in state.values():
        yield from _leaves(part)


def _kinds() -> tuple[type, ...]:
    if "numpy.random" not in sys.modules:
        return (random.Random,)
    # This waits for a thread that is importing it.
    from numpy.random import BitGenerator, Generator, RandomState

    return random.Random, Generator, RandomState, BitGenerator


def _referred(value: Any) -> Iterator[Any]:
    """Yield what a value refers to, as far as traced code may draw numbers from it."""
    if isinstance(value, types.MethodType):
        yield from (value.__func__, value.__self__)
    elif isinstance(value, functools.partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, types.FunctionType):
        yield from _of_function(value)
    elif isinstance(value, (list, tuple)):
        yield from value
    elif isinstance(value, dict):
        yield from value.values()
    elif not isinstance(value, (type, types.ModuleType)):
        yield from _of_object(value)


def _of_function(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        # The cell of a name that is not set yet raises.
        with contextlib.suppress(ValueError):
            yield cell.cell_contents
    if "__wrapped__" in vars(function):
        yield vars(function)["__wrapped__"]
    if not _is_of_library(function.__module__):
        for code in _codes(function.__code__):
            yield from (function.__globals__.get(name) for name in code.co_names)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _of_object(value: Any) -> Iterator[Any]:
    kind = type(value)
    inner = getattr(value, "_flatten_layers", None)
    if callable(inner) and hasattr(value, "_layers"):
        yield from inner(include_self=False, recursive=True)
    if kind.__name__ == "Lambda" or hasattr(kind, "python_function"):
        yield from (getattr(value, name, None) for name in ("function", "python_function"))
    own = [each for each in kind.__mro__ if not _is_of_library(each.__module__)]
    if own == [object]:
        # One of a library's: only what a script has set to a function of its own counts.
        yield from (each for each in _space(value).values() if callable(each))
        return
    yield from _space(value).values()
    for each in own:
        yield from (part for part in vars(each).values() if isinstance(part, types.FunctionType))


def _space(value: Any) -> dict[str, Any]:
    space = getattr(value, "__dict__", None)
    return space if isinstance(space, dict) else {}


def _is_of_library(module: Any) -> bool:
    return isinstance(module, str) and f"{module}.".startswith(_LIBRARIES)
