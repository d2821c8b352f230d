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

__all__ = ["current_precision", "is_patched", "patch_tensorflow", "unpatch_tensorflow"]

_LOCK = threading.RLock()
_LEDGER = Ledger()
_precision: str | None = None


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

    from nano_init.keras_patch.requirements import require_keras

    require_keras(os.environ)
    with _LOCK:
        if _precision != wanted:
            _switch(wanted)


def unpatch_tensorflow() -> None:
    """Restore everything that `patch_tensorflow` replaced; without a patch, do nothing."""
    global _precision
    with _LOCK:
        _LEDGER.restore()
        _precision = None


def is_patched() -> bool:
    """Say whether Keras is patched now."""
    return _precision is not None


def current_precision() -> str | None:
    """Return the precision of the patch, or None without a patch."""
    return _precision


def _switch(wanted: str) -> None:
    global _precision
    # Restored first: a replacement that wraps its original must not wrap an older wrapper.
    previous = _precision
    unpatch_tensorflow()
    try:
        _precision = _apply(wanted)
    except BaseException:
        if previous is not None:
            _precision = _apply(previous)
        raise


def _apply(wanted: str) -> str:
    try:
        _LEDGER.apply(replacements(wanted))
    except (AttributeError, ImportError, KeyError, PatchError) as error:
        # bfloat16 without one of its guards would be silently wrong: float32 is not.
        _warn_of_unknown_keras(error)
        return "float32"
    return wanted


def _warn_of_unknown_keras(error: Exception) -> None:
    import warnings

    import keras

    warnings.warn(
        f"nano-init does not know Keras {keras.__version__} ({error}): "
        "Keras stays unpatched and layers stay float32",
        stacklevel=5,
    )


def replacements(precision: str) -> Iterator[Replacement]:
    """Yield everything that the patch replaces for a precision.

    Args:
        precision: One of `nano_init.keras_patch.precision.PRECISIONS`.

    Raises:
        AttributeError, ImportError, KeyError: This Keras lacks what is to be replaced.
    """
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
