"""The options of the patch in force, for the parts of it that read them."""

from __future__ import annotations

from nano_init.protocol.patch_options import PatchOptions

__all__ = ["activate", "active_options", "current_options"]

_active: PatchOptions | None = None


def active_options() -> PatchOptions | None:
    """Return the options of the patch in force, or None without a patch."""
    return _active


def current_options() -> PatchOptions:
    """Return the options of the patch in force; without one, those that change nothing."""
    return _active or PatchOptions("float32")


def activate(options: PatchOptions | None) -> None:
    """Note the options of the patch that has been applied, or None when it has been removed."""
    global _active
    _active = options
