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
    if "lazy_imports" not in disabled:
        from nano_init.keras_patch.faster.lazy_imports import LazyImportFinder

        finders.insert(0, LazyImportFinder(finders))
    if "collection_pause" not in disabled:
        from nano_init.keras_patch.faster.collection_pause import PausingFinder

        finders.insert(0, PausingFinder(finders))
