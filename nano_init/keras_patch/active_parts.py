"""The state of the parts of the patch: which are active, which are not, and why."""

from __future__ import annotations

from nano_init.frozen import frozen

__all__ = ["ACTIVE", "ASIDE", "OFF", "ActivePaths", "PartState", "active_paths", "note_parts"]

ACTIVE = "active"
ASIDE = "stepped aside"
OFF = "switched off"


@frozen
class PartState:
    """The state of one part of the patch.

    Args:
        name: The part's name, such as "layer_norm".
        kind: What kind of part it is: "faster path", "precision guard", "repair", ...
        state: "active", "stepped aside" or "switched off".
        reason: Why it is not active; "" if it is.
    """

    name: str
    kind: str
    state: str
    reason: str = ""


@frozen
class ActivePaths:
    """The active patch.

    Args:
        precision: The precision of new layers; None without a patch.
        versions: The patched packages with their versions, such as "Keras 3.15.1".
        parts: All parts that were requested or switched off.
    """

    precision: str | None = None
    versions: tuple[str, ...] = ()
    parts: tuple[PartState, ...] = ()

    @property
    def active(self) -> tuple[str, ...]:
        """The names of the active parts."""
        return tuple(part.name for part in self.parts if part.state == ACTIVE)

    @property
    def aside(self) -> tuple[PartState, ...]:
        """The parts that do not fit this Keras or TensorFlow."""
        return tuple(part for part in self.parts if part.state == ASIDE)


_paths = ActivePaths()


def active_paths() -> ActivePaths:
    """Return which parts of the patch are active, which stepped aside, and why."""
    return _paths


def note_parts(paths: ActivePaths) -> None:
    """Record the state of the patch."""
    global _paths
    _paths = paths
