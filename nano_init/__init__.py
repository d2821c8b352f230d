"""Faster, correct TensorFlow Keras training on CPUs, without a change to the script.

Importing this package imports neither TensorFlow nor Keras nor NumPy: the public
functions are loaded when they are first named.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nano_init.distributed.custom_loops import nano_multiprocessing
    from nano_init.keras_patch import convert, nano_bf16
    from nano_init.patch import active_paths, patch_tensorflow, unpatch_tensorflow
    from nano_init.process_calls.num_processes import nano

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "active_paths",
    "convert",
    "nano",
    "nano_bf16",
    "nano_multiprocessing",
    "patch_tensorflow",
    "unpatch_tensorflow",
]

_LAZY = {
    "active_paths": "nano_init.patch",
    "convert": "nano_init.keras_patch",
    "nano": "nano_init.process_calls.num_processes",
    "nano_bf16": "nano_init.keras_patch",
    "nano_multiprocessing": "nano_init.distributed.custom_loops",
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


def load_ipython_extension(_ipython: object) -> None:
    """Set the environment and patch Keras in a running notebook: `%load_ext nano_init`."""
    from nano_init.errors import NanoError
    from nano_init.message import NANO_INIT
    from nano_init.notebook import apply_to_process

    try:
        print(apply_to_process())
    except NanoError as error:
        print(f"{NANO_INIT}: {error}")


def unload_ipython_extension(_ipython: object) -> None:
    """Take both back: `%unload_ext nano_init`."""
    from nano_init.notebook import restore_process

    restore_process()


def __dir__() -> list[str]:
    return sorted(__all__)
