"""Frozen dataclasses that cost nothing to define.

`dataclasses` imports `inspect`, and compiles the methods of each class when the class is
made: together more than half of the time that nano-init would take before every script and
in every shell. `frozen` gives the same classes from methods that are compiled already, and
leaves the standard functions (`fields`, `asdict`, …) to `dataclasses`, which is
imported when one of them is called. Type checkers see plain frozen dataclasses.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any, NoReturn, TypeVar

    from typing_extensions import dataclass_transform

    T = TypeVar("T")
else:

    def dataclass_transform(**_):
        """Stand in for the decorator that only type checkers read (PEP 681)."""
        return lambda function: function


__all__ = ["frozen", "replace"]


@dataclass_transform(frozen_default=True)
def frozen(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass of its annotated names.

    Args:
        cls: a class whose defaults, if any, are immutable values. It inherits no fields.

    Raises:
        TypeError: a field without a default follows one with a default.
    """
    names = tuple(cls.__annotations__)
    defaults = {name: cls.__dict__[name] for name in names if name in cls.__dict__}
    if any(name not in defaults for name in names[len(names) - len(defaults) :]):
        raise TypeError(f"a field of {cls.__name__} without a default follows one with it")
    members: dict[str, object] = {
        "_frozen_names": names,
        "_frozen_set": frozenset(names),
        "_frozen_defaults": defaults,
        "__match_args__": names,
        "__init__": _initialize,
        "__repr__": _represent,
        "__eq__": _equal,
        "__hash__": _hash,
        "__setattr__": _refuse_assignment,
        "__delattr__": _refuse_deletion,
        "__dataclass_fields__": _StandardFields(),
    }
    for name, member in members.items():
        setattr(cls, name, member)
    return cls


def replace(value: T, /, **changes: object) -> T:
    """Return a copy of a frozen value with some of its fields changed.

    Args:
        value: an instance of a class that `frozen` has made.
        changes: the new values, by field.

    Raises:
        TypeError: the value has no such field.
    """
    return type(value)(**{**vars(value), **changes})


def _initialize(self: Any, *arguments: object, **keywords: object) -> None:
    cls = type(self)
    names = cls._frozen_names
    # A large machine has hundreds of cores, each of which is given by all its names.
    if not arguments and keywords.keys() == cls._frozen_set:
        self.__dict__.update(keywords)
        return
    given = dict(zip(names, arguments))  # noqa: B905 - trailing fields come by name or default
    values = {**cls._frozen_defaults, **given, **keywords}
    if len(arguments) > len(names):
        raise TypeError(f"{cls.__name__} takes {len(names)} values, not {len(arguments)}")
    if values.keys() != cls._frozen_set or not given.keys().isdisjoint(keywords):
        raise TypeError(_fault(cls, given, keywords))
    self.__dict__.update(values)


def _fault(cls: Any, given: Collection[str], keywords: Collection[str]) -> str:
    doubled = sorted(set(given) & set(keywords))
    unknown = sorted(set(keywords) - cls._frozen_set)
    if doubled or unknown:
        what = "twice" if doubled else "unknown"
        return f"{cls.__name__}: {what}: {', '.join(doubled or unknown)}"
    known = {*cls._frozen_defaults, *given, *keywords}
    return f"{cls.__name__} lacks {', '.join(n for n in cls._frozen_names if n not in known)}"


def _represent(self: Any) -> str:
    values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._frozen_names)
    return f"{type(self).__qualname__}({values})"


def _equal(self: Any, other: object) -> object:
    if type(other) is not type(self):
        return NotImplemented
    return self.__dict__ == vars(other)


def _hash(self: Any) -> int:
    return hash(tuple(getattr(self, name) for name in self._frozen_names))


def _refuse_assignment(self: Any, name: str, _value: object) -> NoReturn:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot assign to {name!r} of a {type(self).__name__}")


def _refuse_deletion(self: Any, name: str) -> NoReturn:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot delete {name!r} of a {type(self).__name__}")


class _StandardFields:
    """The fields as `dataclasses` describes them, made when they are first asked for."""

    def __get__(self, _instance: object, owner: Any) -> dict[str, Any]:
        import dataclasses

        names, defaults = owner._frozen_names, owner._frozen_defaults
        twin = dataclasses.make_dataclass(
            owner.__name__,
            [
                (name, owner.__annotations__[name], defaults[name])
                if name in defaults
                else (name, owner.__annotations__[name])
                for name in names
            ],
            frozen=True,
        )
        return {field.name: field for field in dataclasses.fields(twin)}
