"""The requirements for patching Keras: installed packages, versions and the backend."""

from __future__ import annotations

from nano_init.errors import PatchError
from nano_init.keras_patch.live_callables import version_of
from nano_init.protocol.supported_versions import too_old

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["require_keras_3", "require_keras_packages", "require_versions"]


def require_keras_packages(environ: Mapping[str, str]) -> frozenset[str]:
    """Import the Keras that the script uses, or raise an error that says why it cannot be patched.

    Args:
        environ: The environment; `KERAS_BACKEND` and `TF_USE_LEGACY_KERAS` are read.

    Returns:
        The packages to patch: `"keras"` (Keras 3), `"tf_keras"` (Keras 2) or both.

    Raises:
        PatchError: TensorFlow or the chosen Keras is not installed or too old, or Keras runs on
            another backend.
    """
    import sys
    from importlib import import_module

    # TensorFlow accepts exactly these (tensorflow/python/util/lazy_loader.py).
    is_legacy = environ.get("TF_USE_LEGACY_KERAS") in ("1", "true", "True")
    names = {name for name in ("keras", "tf_keras") if name in sys.modules}
    names.add("tf_keras" if is_legacy else "keras")
    if "keras" in names and "keras" not in sys.modules:
        _check_backend(environ.get("KERAS_BACKEND") or "tensorflow")
    _check_installed(
        "tensorflow", "TensorFlow is not installed: pip install 'nano-init[tensorflow]'"
    )
    if is_legacy:
        _check_installed(
            "tf_keras", "TF_USE_LEGACY_KERAS is set: pip install tf_keras, or unset it"
        )
    for name in names:
        import_module(name)
    if "keras" in names:
        require_keras_3()
    require_versions(["tensorflow", *sorted(names)])
    return frozenset(names)


def require_keras_3() -> None:
    """Check that the imported Keras is version 3.3 or later on TensorFlow.

    Raises:
        PatchError: Keras or TensorFlow is too old, or Keras runs on another backend.
    """
    require_versions(["tensorflow", "keras"])
    from keras.src.backend.config import backend

    _check_backend(str(backend()))


def require_versions(packages: Iterable[str]) -> None:
    """Check that no package is older than the first supported version.

    Args:
        packages: Names such as `"keras"` and `"tensorflow"`; an unknown version passes.

    Raises:
        PatchError: A package is too old.
    """
    for package in packages:
        sentence = too_old(package, version_of(package))
        if sentence:
            raise PatchError(sentence)


def _check_installed(name: str, sentence: str) -> None:
    import sys
    from importlib.util import find_spec

    if name not in sys.modules and find_spec(name) is None:
        raise PatchError(sentence)


def _check_backend(name: str) -> None:
    if name != "tensorflow":
        raise PatchError(
            f"Keras runs on the backend {name!r} (KERAS_BACKEND or keras.json); "
            "nano-init patches Keras on 'tensorflow' only"
        )
