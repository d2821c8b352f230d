"""Compile each type in the signatures of TensorFlow's ops once while their modules are imported.

The generated modules of TensorFlow's ops (tensorflow/python/ops/gen_array_ops.py and others) have
a type variable for each argument with several dtypes. Each dtype is a string, such as "bfloat16".
Python compiles these 15,000 strings one by one, to check that they are expressions
(typing.py, `ForwardRef`). There are 40 different ones. And it compares each with all special forms
of types (`_type_check`). That is a tenth of the time of `import tensorflow`, and half a second of
the first step for modules that are imported later, such as gen_training_ops.py.
"""

from __future__ import annotations

import contextlib

from nano_init.keras_patch.faster.shadowed_loader import find_shadowed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType
    from typing import Any

__all__ = ["TypeVariableFinder", "compile_once"]

_MISSING = object()

# Generated modules of ops have names such as tensorflow.python.ops.gen_training_ops.
_OPS = ".gen_"


class TypeVariableFinder:
    """A meta path finder that lets imports of TensorFlow and its ops compile each type once.

    Args:
        finders: The meta path, which contains it.
    """

    def __init__(self, finders: list[Any]) -> None:
        self._finders = finders

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the spec of TensorFlow, or of a module of its ops, that another finder found."""
        if name != "tensorflow" and not (name.startswith("tensorflow.") and _OPS in name):
            return None
        # As they are while TensorFlow is imported.
        if _compiles_once():
            return None
        return find_shadowed(self._finders, self, (name, path, target), _run)


def _run(module: ModuleType, run: Callable[[Any], None]) -> None:
    with compile_once():
        run(module)


@contextlib.contextmanager
def compile_once() -> Iterator[None]:
    """Compile equal types in strings once inside the block."""
    import typing

    names: dict[str, Any] = {"compile": _compiling_once()}
    check = getattr(typing, "_type_check", None)
    convert = getattr(typing, "_type_convert", None)
    if check is not None and convert is not None:
        names["_type_check"] = _checking_no_strings(check, convert)
    space = vars(typing)
    before = {name: space.get(name, _MISSING) for name in names}
    space.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            # Keep what something else has put there meanwhile.
            if space.get(name) is names[name]:
                _restore(space, name, value)


def _compiles_once() -> bool:
    import typing

    return "compile" in vars(typing)


def _restore(space: dict[str, Any], name: str, value: Any) -> None:
    if value is _MISSING:
        del space[name]
    else:
        space[name] = value


def _compiling_once() -> Callable[..., Any]:
    """Return `compile`, which remembers the code of each text."""
    known: dict[Any, Any] = {}

    def compile_known(*args: Any, **kwargs: Any) -> Any:
        if kwargs or any(type(each) is not str for each in args):
            return compile(*args, **kwargs)
        if args not in known:
            known[args] = compile(*args)
        return known[args]

    return compile_known


def _checking_no_strings(check: Callable[..., Any], convert: Callable[[Any], Any]) -> Any:
    """Return `typing._type_check`, which converts a string and has nothing to check then."""

    def check_type(*args: Any, **kwargs: Any) -> Any:
        if len(args) == 2 and type(args[0]) is str and not kwargs:
            return convert(args[0])
        return check(*args, **kwargs)

    return check_type
