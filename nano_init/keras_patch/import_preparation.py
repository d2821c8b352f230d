"""Preparation before TensorFlow and Keras are imported: the faster paths of the import."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["prepare_import"]


def prepare_import(options: str, environ: Mapping[str, str], finders: list[Any]) -> None:
    """Install the faster paths for the import of TensorFlow and Keras.

    Args:
        options: The text that `PatchOptions.to_json` wrote; its `disable` is read.
        environ: The environment; `NANO_INIT_DISABLE` is read.
        finders: The meta path, at whose front finders are inserted.
    """
    from nano_init.protocol.faster_paths import parse_disabled
    from nano_init.protocol.patch_options import patch_options_from_json
    from nano_init.protocol.variables import DISABLE_VARIABLE

    asked = patch_options_from_json(options).disable
    # The patch of Keras warns about unknown names.
    disabled, _ = parse_disabled(",".join([environ.get(DISABLE_VARIABLE, ""), *asked]))
    for name, make in _MAKERS.items():
        if name not in disabled:
            finders.insert(0, make()(finders))


def _lazy_imports() -> Any:
    from nano_init.keras_patch.faster.lazy_imports import LazyImportFinder

    return LazyImportFinder


def _lazy_namespaces() -> Any:
    from nano_init.keras_patch.faster.lazy_namespaces import LazyNamespaceFinder

    return LazyNamespaceFinder


def _type_variables() -> Any:
    from nano_init.keras_patch.faster.type_variables import TypeVariableFinder

    return TypeVariableFinder


def _collection_pause() -> Any:
    from nano_init.keras_patch.faster.collection_pause import PausingFinder

    return PausingFinder


# The last one runs the import first.
_MAKERS = {
    "lazy_imports": _lazy_imports,
    "lazy_namespaces": _lazy_namespaces,
    "type_variables": _type_variables,
    "collection_pause": _collection_pause,
}
