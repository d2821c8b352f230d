"""Patches Keras in place and restores it exactly: dtype policy, guards and faster paths.

Importing this package does not import TensorFlow, Keras or NumPy; its functions import them when
they are called.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nano_init.keras_patch.precision.conversion import convert
    from nano_init.keras_patch.precision.decorator import nano_bf16
    from nano_init.patch import (
        apply_from_launcher,
        current_precision,
        is_patched,
        patch_tensorflow,
        unpatch_tensorflow,
    )

__all__ = [
    "apply_from_launcher",
    "convert",
    "current_precision",
    "is_patched",
    "nano_bf16",
    "patch_tensorflow",
    "unpatch_tensorflow",
]

_LAZY = {
    "apply_from_launcher": "nano_init.patch",
    "convert": "nano_init.keras_patch.precision.conversion",
    "current_precision": "nano_init.patch",
    "is_patched": "nano_init.patch",
    "nano_bf16": "nano_init.keras_patch.precision.decorator",
    "patch_tensorflow": "nano_init.patch",
    "unpatch_tensorflow": "nano_init.patch",
}


def __getattr__(name: str) -> object:
    """Load a public name from its module on first use (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
