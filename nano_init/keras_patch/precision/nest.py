"""Map a function over the tensors and arrays in any nest of arguments."""

from __future__ import annotations

import copy
import dataclasses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["map_leaves"]


def map_leaves(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to every leaf of dicts, lists, tuples, named tuples and dataclasses.

    A container in which nothing changed is returned as the same object, so that a function can
    still append to a list argument. Keys are never compared or sorted.

    Args:
        function: Called with each leaf; it returns the leaf itself to leave it unchanged.
        value: Any nest; everything that is not a container is a leaf.
    """
    if isinstance(value, dict):
        return _map_dict(function, value)
    if isinstance(value, (list, tuple)):
        return _map_sequence(function, value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _map_dataclass(function, value)
    return function(value)


def _map_dict(function: Callable[[Any], Any], value: dict[Any, Any]) -> Any:
    changed = {}
    for key, old in value.items():
        new = map_leaves(function, old)
        if new is not old:
            changed[key] = new
    if not changed:
        return value
    # A copy keeps the class: OrderedDict, defaultdict with its factory, a user's class.
    result = copy.copy(value)
    result.update(changed)
    return result


def _map_sequence(function: Callable[[Any], Any], value: Any) -> Any:
    items = [map_leaves(function, item) for item in value]
    if all(new is old for new, old in zip(items, value, strict=True)):
        return value
    if hasattr(value, "_fields"):
        return type(value)(*items)
    return tuple(items) if isinstance(value, tuple) else items


def _map_dataclass(function: Callable[[Any], Any], value: Any) -> Any:
    changed = {}
    for field in dataclasses.fields(value):
        old = getattr(value, field.name, None)
        new = map_leaves(function, old)
        if new is not old:
            changed[field.name] = new
    if not changed:
        return value
    # Not `replace`, which fails for a class with its own `__init__` or `init=False` fields.
    result = copy.copy(value)
    for name, new in changed.items():
        object.__setattr__(result, name, new)
    return result
