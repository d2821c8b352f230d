"""Import optional libraries of Keras on first use instead of with Keras.

`import keras` imports scikit-learn for `keras.wrappers`, matplotlib for `keras.visualization`, and
their dependencies SciPy and pandas: a third of the time of `import tensorflow`. Here these two
modules run when one of their attributes is read. Keras uses pandas and IPython only to check
whether an object belongs to them (keras/src/trainers/data_adapters/array_slicing.py), or whether it
runs in a notebook. It gets them once the program has imported them; before that, there are no such
objects.
"""

from __future__ import annotations

import sys

from nano_init.keras_patch.faster.lazy_module import defer, importing_module
from nano_init.keras_patch.faster.shadowed_loader import find_shadowed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import types
    from collections.abc import Callable
    from typing import Any

__all__ = ["LazyImportFinder"]

# Keras's names for the libraries that it uses only to check for their objects.
_ASKED = {"pandas": "pandas", "IPython": "ipython"}


class LazyImportFinder:
    """A meta path finder before all others, which defers modules of Keras.

    Args:
        finders: The meta path, which contains it.
    """

    def __init__(self, finders: list[Any]) -> None:
        self._finders = finders
        self._deferred: set[str] = set()
        self._asking: dict[str, set[str]] = {name: set() for name in _ASKED}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the spec of a deferred module, or of a library that Keras asks about."""
        if name in self._asking:
            self._refuse_keras(name)
            return find_shadowed(self._finders, self, (name, path, target), self._introduce)
        if name not in self._deferred and _is_optional(name):
            return find_shadowed(self._finders, self, (name, path, target), self._defer)
        return None

    def _defer(self, module: types.ModuleType, run: Callable[[Any], None]) -> None:
        self._deferred.add(module.__name__)
        defer(module, run)

    def _refuse_keras(self, name: str) -> None:
        asking = importing_module()
        if asking.startswith("keras.src."):
            self._asking[name].add(asking)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    def _introduce(self, module: types.ModuleType, run: Callable[[Any], None]) -> None:
        run(module)
        for asking in self._asking.pop(module.__name__, ()):
            _give(sys.modules.get(asking), module)


def _is_optional(name: str) -> bool:
    if name == "keras.src.visualization":
        return True
    is_public = name.startswith("keras.") and not name.startswith("keras.src.")
    return is_public and name.endswith((".wrappers", ".visualization"))


def _give(asking: Any, library: types.ModuleType) -> None:
    """Set a library in a module of Keras as if the module had imported it."""
    attribute = _ASKED[library.__name__]
    if asking is None or getattr(asking, attribute, None) is not None:
        return
    setattr(asking, attribute, library)
    if hasattr(asking, "ARRAY_TYPES") and library.__name__ == "pandas":
        asking.ARRAY_TYPES = (*asking.ARRAY_TYPES, library.Series, library.DataFrame)
