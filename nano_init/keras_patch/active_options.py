"""The options of the active patch, for the parts that read them."""

from __future__ import annotations

from nano_init.protocol.patch_options import PatchOptions

__all__ = ["activate", "active_options", "current_options"]

_active: PatchOptions | None = None


def active_options() -> PatchOptions | None:
    """Return the options of the active patch, or None without a patch."""
    return _active


def current_options() -> PatchOptions:
    """Return the options of the active patch; without one, options that change nothing."""
    return _active or PatchOptions("float32")


def activate(options: PatchOptions | None) -> None:
    """Set the options of the patch that was applied, or None after it was removed."""
    global _active
    _active = options
