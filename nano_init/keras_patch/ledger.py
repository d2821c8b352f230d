"""Replace attributes in place, all or none, and restore the originals exactly."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nano_init.errors import PatchError
from nano_init.keras_patch.own_attributes import own_attribute
from nano_init.keras_patch.own_frames import without_own_frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Ledger", "Replacement"]

_ABSENT = object()


@dataclass(frozen=True)
class Replacement:
    """A new value for one attribute of a module, a class or an object.

    Args:
        target: The module, class or object whose own namespace is written.
        attribute: The attribute's name.
        value: The new value.
        inherited: Whether the target may inherit the attribute, or lack it; undoing the
            replacement then deletes it.
        is_yielding: Whether undoing keeps a value that other code has written since.
    """

    target: object
    attribute: str
    value: object
    inherited: bool = False
    is_yielding: bool = False


class Ledger:
    """The originals of all replaced attributes, in the order of replacement."""

    def __init__(self) -> None:
        self._originals: list[tuple[Replacement, object]] = []

    def __len__(self) -> int:
        return len(self._originals)

    def apply(self, replacements: Iterable[Replacement]) -> None:
        """Make all replacements, or none of them.

        Args:
            replacements: What to replace; each target is checked before the first is touched.

        Raises:
            PatchError: A target lacks the attribute or refuses to be written.
        """
        planned = [replace(r, value=without_own_frames(r.value)) for r in replacements]
        for replacement in planned:
            _check(replacement)
        done = len(self._originals)
        for replacement in planned:
            target, attribute = replacement.target, replacement.attribute
            original = _own(target, attribute)
            try:
                setattr(target, attribute, replacement.value)
            except (AttributeError, TypeError) as error:
                self._restore_down_to(done)
                raise PatchError(
                    f"{_describe(target, attribute)} cannot be set: {error}"
                ) from error
            self._originals.append((replacement, original))

    def restore(self) -> None:
        """Restore every original in reverse order; attributes that were absent are deleted."""
        self._restore_down_to(0)

    def _restore_down_to(self, length: int) -> None:
        while len(self._originals) > length:
            replacement, original = self._originals.pop()
            target, attribute = replacement.target, replacement.attribute
            if replacement.is_yielding and _own(target, attribute) is not replacement.value:
                continue
            if original is not _ABSENT:
                setattr(target, attribute, original)
            elif _own(target, attribute) is not _ABSENT:
                delattr(target, attribute)


def _own(target: object, attribute: str) -> object:
    return own_attribute(target, attribute, _ABSENT)


def _check(replacement: Replacement) -> None:
    if replacement.inherited or _own(replacement.target, replacement.attribute) is not _ABSENT:
        return
    place = _describe(replacement.target, replacement.attribute)
    raise PatchError(f"{place} does not exist in this version of Keras or TensorFlow")


def _describe(target: object, attribute: str) -> str:
    name = getattr(target, "__qualname__", None) or getattr(target, "__name__", None)
    return f"{name or type(target).__name__}.{attribute}"
