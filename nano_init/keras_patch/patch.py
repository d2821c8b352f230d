"""Patch Keras in place and take the patch out again."""

from __future__ import annotations

import threading

from nano_init.errors import PatchError
from nano_init.keras_patch.ledger import Ledger
from nano_init.keras_patch.precision import parse_precision

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from nano_init.keras_patch.ledger import Replacement

__all__ = [
    "current_precision",
    "is_patched",
    "patch_imported",
    "patch_tensorflow",
    "unpatch_tensorflow",
]

_LOCK = threading.RLock()
_LEDGER = Ledger()
_precision: str | None = None
_kerases: frozenset[str] = frozenset()


def patch_tensorflow(precision: str = "float32") -> None:
    """Patch Keras: layers created from now on take this precision.

    A layer's own `dtype=` wins, and so does a policy that the script sets afterwards. Models
    built before keep their policy. Patching twice is patching once; patching with another
    precision switches to it.

    Args:
        precision: `"float32"`, which leaves the dtype policy to Keras, or `"mixed_bfloat16"`:
            computation in bfloat16, variables in float32.

    Raises:
        PrecisionError: The precision is unknown or unfit for training; nothing was touched.
        PatchError: TensorFlow is missing, or Keras runs on another backend; nothing was
            touched.

    Warns:
        UserWarning: This version of Keras lacks something that the patch replaces; nothing
            was touched, so that its layers stay float32.
    """
    wanted = parse_precision(precision)
    import os

    from nano_init.keras_patch.requirements import require_kerases

    kerases = require_kerases(os.environ)
    with _LOCK:
        if (_precision, _kerases) != (wanted, kerases):
            _switch(wanted, kerases)


def patch_imported(name: str, precision: str = "float32") -> None:
    """Patch a Keras that is being imported, beside one that is patched already.

    Unlike `patch_tensorflow`, this imports no Keras that the script has not asked for:
    TensorFlow itself may be half imported at this point.

    Args:
        name: `"keras"` or `"tf_keras"`.
        precision: As for `patch_tensorflow`.

    Raises:
        PrecisionError: The precision is unknown or unfit for training.
        PatchError: Keras runs on another backend.
    """
    wanted = parse_precision(precision)
    from nano_init.keras_patch.requirements import require_keras_3

    if name == "keras":
        require_keras_3()
    with _LOCK:
        _switch(wanted, _kerases | {name})


def unpatch_tensorflow() -> None:
    """Restore everything that `patch_tensorflow` replaced; without a patch, do nothing."""
    global _precision, _kerases
    with _LOCK:
        _LEDGER.restore()
        _precision, _kerases = None, frozenset()


def is_patched() -> bool:
    """Say whether Keras is patched now."""
    return _precision is not None


def current_precision() -> str | None:
    """Return the precision of the patch, or None without a patch."""
    return _precision


def _switch(wanted: str, kerases: frozenset[str]) -> None:
    global _precision, _kerases
    # Restored first: a replacement that wraps its original must not wrap an older wrapper.
    previous, previous_kerases = _precision, _kerases
    unpatch_tensorflow()
    try:
        _precision, _kerases = _apply(wanted, kerases), kerases
    except BaseException:
        if previous is not None:
            _precision, _kerases = _apply(previous, previous_kerases), previous_kerases
        raise


def _apply(wanted: str, kerases: frozenset[str]) -> str:
    try:
        _LEDGER.apply(replacements(wanted, kerases))
    except (AttributeError, ImportError, KeyError, PatchError) as error:
        # bfloat16 without one of its guards would be silently wrong: float32 is not.
        _warn_of_unknown_keras(error)
        return "float32"
    return wanted


def _warn_of_unknown_keras(error: Exception) -> None:
    import sys
    import warnings

    keras = sys.modules.get("keras") or sys.modules.get("tf_keras")
    warnings.warn(
        f"nano-init does not know Keras {getattr(keras, '__version__', '')} ({error}): "
        "Keras stays unpatched and layers stay float32",
        stacklevel=5,
    )


def replacements(precision: str, kerases: frozenset[str]) -> Iterator[Replacement]:
    """Yield everything that the patch replaces for a precision.

    Args:
        precision: One of `nano_init.keras_patch.precision.PRECISIONS`.
        kerases: The packages to patch: `"keras"`, `"tf_keras"` or both.

    Raises:
        AttributeError, ImportError, KeyError: This Keras lacks what is to be replaced.
    """
    if "keras" in kerases:
        yield from _keras_3_replacements(precision)
    if "tf_keras" in kerases:
        from nano_init.keras_patch.legacy import legacy_replacements

        yield from legacy_replacements(precision, is_alone="keras" not in kerases)


def _keras_3_replacements(precision: str) -> Iterator[Replacement]:
    from nano_init.keras_patch.boundary import boundary_replacements
    from nano_init.keras_patch.exact_inputs import exact_input_replacements
    from nano_init.keras_patch.extra_losses import extra_loss_replacements
    from nano_init.keras_patch.policy import default_policy_replacements
    from nano_init.keras_patch.preprocessing import preprocessing_replacements
    from nano_init.keras_patch.repeated_ids import repeated_ids_replacements

    yield from default_policy_replacements(precision)
    yield from repeated_ids_replacements()
    if precision != "float32":
        yield from boundary_replacements()
        yield from exact_input_replacements()
        yield from preprocessing_replacements()
        yield from extra_loss_replacements()
