"""BigDL-Nano's names for TensorFlow, on top of nano-init: `import nano_init.bigdl`.

Importing this module makes `bigdl.nano.tf` and what it held importable where BigDL-Nano is
not installed, so that its scripts and tutorials run as they are written. An installed
BigDL-Nano wins. `nano-run` does the same without the import.
"""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

__all__ = ["BigdlFinder", "provide_bigdl"]

# Each module: where its names come from now; "*" is where all others come from.
_MODULES: dict[str, dict[str, str]] = {
    "bigdl": {},
    "bigdl.nano": {},
    "bigdl.nano.tf": {
        "patch_tensorflow": "nano_init.patch",
        "unpatch_tensorflow": "nano_init.patch",
    },
    "bigdl.nano.tf.dispatcher": {
        "patch_tensorflow": "nano_init.patch",
        "unpatch_tensorflow": "nano_init.patch",
    },
    "bigdl.nano.tf.keras": {
        "nano_bf16": "nano_init.keras_patch",
        "nano": "nano_init.process_calls.num_processes",
        "nano_multiprocessing": "nano_init.distributed.custom_loops",
        "nano_multiprocessing_loss": "nano_init.distributed.custom_loops",
        "*": "keras",
    },
    "bigdl.nano.tf.keras.layers": {"*": "keras.layers"},
    "bigdl.nano.tf.optimizers": {"SparseAdam": "nano_init.optimizers", "*": "keras.optimizers"},
}

# What BigDL-Nano had and Keras 3 has not, with what to do instead.
_GONE = {
    "InferenceOptimizer": "nano-init is for training; use OpenVINO or ONNX Runtime",
}

# BigDL-Nano's own classes: their `fit` takes `num_processes`, which is what the patch adds.
_WITH_PROCESSES = {("bigdl.nano.tf.keras", "Model"), ("bigdl.nano.tf.keras", "Sequential")}


class BigdlFinder(MetaPathFinder, Loader):
    """Finds BigDL-Nano's modules; comes last, so that installed ones win."""

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a module of BigDL-Nano's, or None for any other."""
        if name not in _MODULES:
            return None
        is_package = any(other.startswith(f"{name}.") for other in _MODULES)
        return ModuleSpec(name, self, origin="nano-init", is_package=is_package)

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its names; they are loaded when they are first asked for."""
        name = module.__name__

        def get_name(attribute: str) -> object:
            value = _find_name(name, attribute)
            setattr(module, attribute, value)
            return value

        # PEP 562
        module.__getattr__ = get_name  # type: ignore[method-assign]
        module.__all__ = [n for n in _MODULES[name] if n != "*"]  # type: ignore[attr-defined]


def provide_bigdl() -> None:
    """Make BigDL-Nano's modules importable; again is the same as once."""
    if not any(isinstance(finder, BigdlFinder) for finder in sys.meta_path):
        sys.meta_path.append(BigdlFinder())


def _find_name(module: str, attribute: str) -> object:
    from importlib import import_module

    sources = _MODULES[module]
    source = sources.get(attribute, sources.get("*"))
    if attribute in _GONE and module.startswith("bigdl.nano.tf.keras"):
        raise ImportError(
            f"{module}.{attribute} of BigDL-Nano has no counterpart: {_GONE[attribute]}"
        )
    if source is None or attribute.startswith("__"):
        raise AttributeError(f"module {module!r} has no attribute {attribute!r}")
    value = getattr(import_module(source), attribute)
    if (module, attribute) in _WITH_PROCESSES:
        from nano_init.patch import is_patched, patch_tensorflow

        if not is_patched():
            patch_tensorflow()
    return value


provide_bigdl()
