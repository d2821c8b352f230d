"""Modules that run when one of their attributes is first read."""

from __future__ import annotations

import sys
import threading
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["LazyModule", "defer", "importing_module"]

# Attributes that are read while other modules are imported; these do not run the module.
_QUIET = frozenset(
    [
        *("__class__", "__spec__", "__name__", "__loader__", "__package__", "__path__"),
        *("__file__", "__cached__"),
    ]
)

_OWN = __name__.rpartition(".")[0] + "."

_waiting: dict[int, tuple[threading.RLock, Callable[[types.ModuleType], None]]] = {}
_running: set[int] = set()


class LazyModule(types.ModuleType):
    """A module that runs when an attribute is first read."""

    def __getattribute__(self, name: str) -> Any:
        """Return an attribute of the module after running it."""
        if name not in _QUIET:
            _run(self)
        if type(self) is not LazyModule:
            return getattr(self, name)
        return types.ModuleType.__getattribute__(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute; a submodule, which the import system sets, does not run the module."""
        if name != "__class__" and sys.modules.get(f"{self.__name__}.{name}") is not value:
            _run(self)
        types.ModuleType.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        """Delete an attribute of the module after running it."""
        _run(self)
        if type(self) is not LazyModule:
            delattr(self, name)
        else:
            types.ModuleType.__delattr__(self, name)


def defer(module: types.ModuleType, run: Callable[[types.ModuleType], None]) -> None:
    """Make a module lazy.

    Args:
        module: The module, not run yet.
        run: Runs it.
    """
    # A lock per module: two threads may import modules that need each other's.
    _waiting[id(module)] = threading.RLock(), run
    module.__class__ = LazyModule


def importing_module() -> str:
    """Return the name of the module whose import statement, outside of functions, runs; or ""."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        where = frame.f_globals.get("__name__") or ""
        if not where.startswith((_OWN, "importlib", "_frozen_importlib")):
            return str(where) if frame.f_code.co_name == "<module>" else ""
        frame = frame.f_back
    return ""


def _run(module: types.ModuleType) -> None:
    key = id(module)
    # None if another thread has run the module.
    lock, run = _waiting.get(key, (None, None))
    if lock is None or run is None:
        return
    with lock:
        # This thread may be running it; another one may have run it meanwhile.
        if key in _running or key not in _waiting:
            return
        _running.add(key)
        try:
            run(module)
            del _waiting[key]
        finally:
            _running.discard(key)
        # `run` may have given it another class.
        kind: type = type(module)
        if kind is LazyModule:
            module.__class__ = types.ModuleType
