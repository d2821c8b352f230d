"""Read an attribute that an object has itself, without inheritance and without descriptors."""

from __future__ import annotations

from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["own_attribute", "own_names"]

# A module's names, past a property that a subclass may have instead.
_READ_SPACE: Callable[[ModuleType], dict[str, Any]] = vars(ModuleType)["__dict__"].__get__


def own_attribute(owner: object, name: str, default: object) -> Any:
    """Return an attribute of a module, a class or an object itself.

    A class's namespace contains the staticmethod or descriptor itself, which `getattr` would
    unwrap. `vars` of a module that imports each of its names when it is read, such as `tf.nn`,
    would import all of them.

    Args:
        owner: Where to look; it need not have a namespace.
        name: The attribute's name.
        default: What to return if the owner lacks it.
    """
    if isinstance(owner, ModuleType):
        getattr(owner, name, None)
        return own_names(owner).get(name, default)
    return getattr(owner, "__dict__", {}).get(name, default)


def own_names(module: ModuleType) -> dict[str, Any]:
    """Return the names that a module has by now, itself and not a copy."""
    return _READ_SPACE(module)
