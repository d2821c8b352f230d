"""What must be installed and chosen before Keras can be patched."""

from __future__ import annotations

from nano_init.errors import PatchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["require_keras"]


def require_keras(environ: Mapping[str, str]) -> None:
    """Import Keras 3 on TensorFlow, or say in one sentence why not.

    Args:
        environ: The environment; `KERAS_BACKEND` is read before Keras is imported.

    Raises:
        PatchError: TensorFlow is not installed, or Keras runs on another backend.
    """
    import sys
    from importlib.util import find_spec

    if "keras" not in sys.modules:
        _check_backend(environ.get("KERAS_BACKEND") or "tensorflow")
    if "tensorflow" not in sys.modules and find_spec("tensorflow") is None:
        raise PatchError("TensorFlow is not installed: pip install 'nano-init[tensorflow]'")
    from keras.src.backend.config import backend

    _check_backend(str(backend()))


def _check_backend(name: str) -> None:
    if name != "tensorflow":
        raise PatchError(
            f"Keras runs on the backend {name!r} (KERAS_BACKEND or keras.json); "
            "nano-init patches Keras on 'tensorflow' only"
        )
