"""Keras and TensorFlow as imported in this process: versions, sources, replaced callables.

A callable is the package's own if all its code, including its decorators, is in the package's
folder. A function that another tool has installed, as a wrapper or not, has another file.
"""

from __future__ import annotations

import os
import sys
from types import FunctionType

from nano_init.fingerprints.installed_sources import digests_of_callables
from nano_init.fingerprints.source_digest import ABSENT
from nano_init.fingerprints.verdict import FoundPackage
from nano_init.keras_patch.own_attributes import own_attribute
from nano_init.keras_patch.own_frames import OWN_PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType
    from typing import Any

    from nano_init.fingerprints.known_sources import KnownSources

__all__ = ["find_imported", "is_replaced", "version_of"]

_MISSING = object()

# The module with the version while TensorFlow is still being imported.
_VERSIONS = {"tensorflow": ("tensorflow.python.framework.versions", "VERSION")}


def find_imported(package: str, texts: Iterable[str], known: KnownSources) -> FoundPackage:
    """Return the state of an imported package in this process.

    Args:
        package: `"keras"`, `"tensorflow"` or `"tf_keras"`; it is already imported.
        texts: The callables to check, as the records write them.
        known: The verified sources of the package.
    """
    module = sys.modules[package]
    callables = [text for text in texts if text.partition(".")[0] == package]
    digests = digests_of_callables(callables, known, _reader(module))
    # A module that is not imported yet will match its file.
    here = [text for text in callables if text.partition(":")[0] in sys.modules]
    gone = {text: ABSENT for text in here if _value_of(text) is _MISSING}
    return FoundPackage(
        version=version_of(package),
        digests={**digests, **gone},
        replaced=frozenset(text for text in callables if is_replaced(text)),
        known=known,
    )


def version_of(package: str) -> str:
    """Return the version of an imported package, or "" if unknown."""
    version = getattr(sys.modules.get(package), "__version__", None)
    if version is None and package in _VERSIONS:
        name, attribute = _VERSIONS[package]
        version = getattr(sys.modules.get(name), attribute, "")
    return str(version or "")


def is_replaced(text: str) -> bool:
    """Say whether another tool has replaced a callable; nano-init's replacements do not count.

    Args:
        text: The callable as the records write it. A missing callable is not replaced.
    """
    folders = _folders()
    functions = list(_functions(_value_of(text)))
    if not functions:
        return False
    own = all(_is_below(each, (*folders, OWN_PATH)) for each in functions)
    return not (own and _is_below(functions[-1], folders))


def _value_of(text: str) -> Any:
    """Return the object at a place itself, without inheritance, or `_MISSING`."""
    module, _, path = text.partition(":")
    value: Any = sys.modules.get(module, _MISSING)
    for name in path.split("."):
        value = own_attribute(value, name, _MISSING)
    return value


def _functions(value: Any) -> Iterator[FunctionType]:
    """Yield a function and the functions that it wraps, outermost first; nothing for others."""
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    elif isinstance(value, property):
        value = value.fget
    while isinstance(value, FunctionType):
        yield value
        value = vars(value).get("__wrapped__")


def _is_below(function: FunctionType, folders: tuple[str, ...]) -> bool:
    return function.__code__.co_filename.startswith(folders)


def _folders() -> tuple[str, ...]:
    files = (
        getattr(sys.modules.get(package), "__file__", None)
        for package in ("keras", "tensorflow", "tf_keras")
    )
    return tuple(os.path.join(os.path.dirname(file), "") for file in files if file)


def _reader(module: ModuleType) -> Callable[[str], bytes]:
    """Return a function that reads a package's files through its loader."""
    parent = os.path.dirname(os.path.dirname(module.__file__ or ""))
    read: Any = getattr(getattr(module, "__loader__", None), "get_data", None)

    def get(file: str) -> bytes:
        path = os.path.join(parent, *file.split("/"))
        if read is None:
            raise FileNotFoundError(path)
        return bytes(read(path))

    return get
