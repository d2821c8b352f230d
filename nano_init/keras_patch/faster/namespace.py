"""Modules that consist of imports, and import each name when it is first read."""

from __future__ import annotations

import builtins
import re
import sys
import types

from nano_init.keras_patch.own_attributes import own_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

__all__ = ["Namespace", "imports_of", "make_namespace"]

_DOCSTRING = re.compile(r'"""(.*?)"""', re.DOTALL)
_IMPORT = re.compile(r"from ([\w.]+) import (\w+)(?: as (\w+))?\s*(?:#.*)?")

_Pending = dict[str, tuple[str, str]]

# What each namespace has not imported yet, and the function that imports a namespace inside it.
_pending: dict[int, tuple[_Pending, Callable[[str], Any]]] = {}


class Namespace(types.ModuleType):
    """A module whose names are imported when they are first read.

    It becomes an ordinary module when its contents are read as a whole.
    """

    # CPython calls this one directly next to `__getattr__` (Objects/typeobject.c,
    # `slot_tp_getattr_hook`); through the inherited one, a read takes three times as long.
    __getattribute__ = object.__getattribute__

    def __getattr__(self, name: str) -> Any:
        """Import a name; names that were imported do not come here."""
        pending, import_inner = _pending.get(id(self), ({}, None))
        if name not in pending or import_inner is None:
            # Such as `__all__`, which star imports ask for.
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = _import(self.__name__, *pending[name], import_inner)
        types.ModuleType.__setattr__(self, name, value)
        return value

    def __delattr__(self, name: str) -> None:
        """Delete a name."""
        _complete(self)
        types.ModuleType.__delattr__(self, name)

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        """All names; `vars`, `dir` and star imports read it."""
        _complete(self)
        return own_names(self)


def make_namespace(module: types.ModuleType, import_inner: Callable[[str], Any]) -> bool:
    """Make a module, which was not run, a namespace; return whether it consists of imports.

    Args:
        module: The module; its loader can return its source.
        import_inner: Imports a namespace inside of it by its full name.
    """
    get_source = getattr(module.__loader__, "get_source", None)
    source = get_source(module.__name__) if get_source else None
    found = imports_of(source) if source else None
    if found is None:
        return False
    module.__doc__, names = found
    own_names(module).update(_sys=sys, __builtins__=vars(builtins))
    _pending[id(module)] = dict(names), import_inner
    module.__class__ = Namespace
    return True


def imports_of(source: str) -> tuple[str | None, Mapping[str, tuple[str, str]]] | None:
    """Return the docstring of a module, and where its names come from; None if it has other code.

    Args:
        source: The module's source.
    """
    docstring = _DOCSTRING.search(source)
    rest = source[docstring.end() :] if docstring else source
    names: _Pending = {}
    for line in rest.splitlines():
        statement = _IMPORT.fullmatch(line.rstrip())
        if statement:
            module, name, alias = statement.groups()
            names[alias or name] = module, name
        elif line.strip() not in ("", "import sys as _sys"):
            return None
    return (docstring.group(1) if docstring else None), names


def _complete(module: types.ModuleType) -> None:
    """Import all names that the namespace still lacks, and make it an ordinary module."""
    pending, import_inner = _pending.get(id(module), ({}, None))
    if import_inner is not None:
        space = own_names(module)
        for name, (source, attribute) in pending.items():
            if name not in space:
                value = _import(module.__name__, source, attribute, import_inner)
                # A name that the program has set meanwhile stays.
                space.setdefault(name, value)
        _pending.pop(id(module), None)
    module.__class__ = types.ModuleType


def _import(importing: str, source: str, name: str, import_inner: Callable[[str], Any]) -> Any:
    if source == importing:
        return import_inner(f"{source}.{name}")
    return getattr(__import__(source, fromlist=[name]), name)
