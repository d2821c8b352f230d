"""What this process has imported of Keras and TensorFlow: versions, sources, and whose callables.

A callable counts as the package's own if all its code is from the package's folder: its
decorators' too. Another tool that has put its own function there, wrapped or not, shows by its
file.
"""

from __future__ import annotations

import os
import sys
from types import FunctionType

from nano_init.fingerprints.installed_sources import digests_of_callables
from nano_init.fingerprints.source_digest import ABSENT
from nano_init.fingerprints.verdict import FoundPackage
from nano_init.keras_patch.own_frames import OWN_PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType
    from typing import Any

    from nano_init.fingerprints.known_sources import KnownSources

__all__ = ["find_imported", "is_replaced", "version_of"]

_MISSING = object()

# Where a TensorFlow that is still being imported has its version.
_VERSIONS = {"tensorflow": ("tensorflow.python.framework.versions", "VERSION")}


def find_imported(package: str, texts: Iterable[str], known: KnownSources) -> FoundPackage:
    """Return what this process has imported of a package.

    Args:
        package: `"keras"`, `"tensorflow"` or `"tf_keras"`; it is imported already.
        texts: The callables to look at, as the records have them.
        known: What is known of the package.
    """
    module = sys.modules[package]
    callables = [text for text in texts if text.partition(".")[0] == package]
    digests = digests_of_callables(callables, known, _reader(module))
    # A module that is not imported yet will be what its file says.
    here = [text for text in callables if text.partition(":")[0] in sys.modules]
    gone = {text: ABSENT for text in here if _value_of(text) is _MISSING}
    return FoundPackage(
        version=version_of(package),
        digests={**digests, **gone},
        replaced=frozenset(text for text in callables if is_replaced(text)),
        known=known,
    )


def version_of(package: str) -> str:
    """Return the version of an imported package, or "" where it does not say."""
    version = getattr(sys.modules.get(package), "__version__", None)
    if version is None and package in _VERSIONS:
        name, attribute = _VERSIONS[package]
        version = getattr(sys.modules.get(name), attribute, "")
    return str(version or "")


def is_replaced(text: str) -> bool:
    """Say whether another tool has put its own callable in a place; nano-init's own do not count.

    Args:
        text: The callable as the records have it. One that is not there is not replaced.
    """
    folders = _folders()
    functions = list(_functions(_value_of(text)))
    if not functions:
        return False
    own = all(_is_below(each, (*folders, OWN_PATH)) for each in functions)
    return not (own and _is_below(functions[-1], folders))


def _value_of(text: str) -> Any:
    """Return what a place holds itself, not by inheritance, or `_MISSING`."""
    module, _, path = text.partition(":")
    value: Any = sys.modules.get(module, _MISSING)
    for name in path.split("."):
        value = getattr(value, "__dict__", {}).get(name, _MISSING)
    return value


def _functions(value: Any) -> Iterator[FunctionType]:
    """Yield a function and what it wraps, the outermost first; nothing for other values."""
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
    """Return a function that reads a package's files where its loader finds them."""
    parent = os.path.dirname(os.path.dirname(module.__file__ or ""))
    read: Any = getattr(getattr(module, "__loader__", None), "get_data", None)

    def get(file: str) -> bytes:
        path = os.path.join(parent, *file.split("/"))
        if read is None:
            raise FileNotFoundError(path)
        return bytes(read(path))

    return get
