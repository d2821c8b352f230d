"""Patch Keras in place and take the patch out again: which contributions make up the patch."""

from __future__ import annotations

import os
import sys
import threading

from nano_init.errors import PatchError
from nano_init.frozen import replace
from nano_init.keras_patch.active_options import activate, active_options
from nano_init.keras_patch.import_preparation import prepare_import
from nano_init.keras_patch.ledger import Ledger
from nano_init.plan.precision import check_precision
from nano_init.protocol.patch_options import (
    PatchOptions,
    parse_keep_float32,
    parse_steps_per_execution,
    patch_options_from_json,
)
from nano_init.protocol.variables import COMPILE_SOON_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from nano_init.keras_patch.ledger import Replacement

__all__ = [
    "apply_from_launcher",
    "current_precision",
    "is_patched",
    "patch_imported",
    "patch_tensorflow",
    "unpatch_tensorflow",
]

_LOCK = threading.RLock()
_LEDGER = Ledger()

# The packages that are patched now: "keras" (Keras 3), "tf_keras" (Keras 2) or both.
_keras_packages: frozenset[str] = frozenset()


def patch_tensorflow(
    precision: str = "float32",
    *,
    keep_float32: str | Collection[str] = (),
    disable: str | Collection[str] = (),
    lazy_adam: bool = False,
    steps_per_execution: int | str | None = None,
) -> None:
    """Patch Keras: layers created from now on take this precision.

    A layer's own `dtype=` wins, and so does a policy that the script sets afterwards. Models
    built before keep their policy. Patching twice is patching once; patching with another
    precision switches to it.

    Args:
        precision: `"float32"`, which leaves the dtype policy to Keras, or `"mixed_bfloat16"`:
            computation in bfloat16, variables in float32.
        keep_float32: Layers that stay in float32 under `"mixed_bfloat16"`, with all that they
            hold: patterns, as in `fnmatch`, of a layer's name or its class's, such as
            `("head*", "LayerNormalization")`. One that no layer matches does nothing.
        disable: Faster paths to switch off, beside those that NANO_INIT_DISABLE names: see
            `nano_init.keras_patch.faster.registry.FASTER_PATHS`; `"all"` is all of them.
        lazy_adam: Let Keras 3's Adam and AdamW update only the rows that a sparse gradient
            names: another algorithm, see `nano_init.keras_patch.sparse.lazy_adam`.
        steps_per_execution: How many training steps `fit` runs between two returns to Python,
            or `"auto"`, which aims at 50 ms. A number that the script gives `compile` wins.

    Raises:
        PrecisionError: The precision is unknown or unfit for training.
        UsageError: A pattern is empty or no string, or the number of steps is none.
        PatchError: TensorFlow is missing, or Keras runs on another backend.

    Warns:
        UserWarning: A faster path to switch off is unknown; or this Keras lacks something that
            the patch replaces: nothing was touched then, and layers stay float32.
    """
    import os

    from nano_init.keras_patch.faster.registry import disabled_paths
    from nano_init.keras_patch.requirements import require_keras_packages

    options = PatchOptions(
        check_precision(precision, auto=False),
        parse_keep_float32(keep_float32),
        lazy_adam=bool(lazy_adam),
        steps_per_execution=parse_steps_per_execution(steps_per_execution),
    )
    options = replace(options, disable=disabled_paths(os.environ, disable))
    if "tensorflow" not in sys.modules and "keras" not in sys.modules:
        prepare_import(options.to_json(), os.environ, sys.meta_path)
    keras_packages = require_keras_packages(os.environ)
    with _LOCK:
        if (active_options(), _keras_packages) != (options, keras_packages):
            _switch(options, keras_packages)


def patch_imported(name: str, options: PatchOptions) -> None:
    """Patch a Keras that is being imported, beside one that is patched already.

    Unlike `patch_tensorflow`, this imports no Keras that the script has not asked for:
    TensorFlow itself may be half imported at this point.

    Args:
        name: `"keras"` or `"tf_keras"`.
        options: What the patch is asked for, not yet checked.

    Raises:
        PrecisionError: The precision is unknown or unfit for training.
        UsageError: A pattern is empty or no string, or the number of steps is none.
        PatchError: Keras runs on another backend.
    """
    import os

    from nano_init.keras_patch.faster.registry import disabled_paths
    from nano_init.keras_patch.requirements import require_keras_3

    options = replace(
        options,
        precision=check_precision(options.precision, auto=False),
        keep_float32=parse_keep_float32(options.keep_float32),
        steps_per_execution=parse_steps_per_execution(options.steps_per_execution),
        is_chosen=False,
    )
    options = replace(options, disable=disabled_paths(os.environ, options.disable))
    if name == "keras":
        require_keras_3()
    with _LOCK:
        _switch(options, _keras_packages | {name})


def apply_from_launcher(options: str, name: str) -> None:
    """Patch Keras as the launcher was asked to; on failure say so and let the script run.

    Args:
        options: What `PatchOptions.to_json` has written.
        name: The package that has just been imported, `"keras"` or `"tf_keras"`.
    """
    from nano_init.distributed.worker_startup import current_membership

    try:
        asked = patch_options_from_json(options)
        patch_imported(name, asked)
        if os.environ.get(COMPILE_SOON_VARIABLE) == "1":
            from nano_init.keras_patch.faster.deferred import compile_soon

            compile_soon()
        if asked.is_chosen and current_precision() == "mixed_bfloat16":
            from nano_init.keras_patch.precision.way_out import name_way_out

            name_way_out()
    # Whatever fails here must not fail the user's `import keras`; a worker that is not patched
    # would hold up or mislead all others.
    except Exception as error:
        if current_membership() is not None:
            raise
        from nano_init.message import NANO_RUN, say

        cause = str(error).strip().splitlines() or [type(error).__name__]
        say(NANO_RUN, f"{cause[0]}; the script runs unpatched")


def unpatch_tensorflow() -> None:
    """Restore everything that `patch_tensorflow` replaced; without a patch, do nothing.

    What makes a worker of a job train its shares stays: without it, it would hold up the others.
    """
    with _LOCK:
        keras_packages = _keras_packages
        _restore()
        _apply_for_worker(keras_packages)


def is_patched() -> bool:
    """Say whether Keras is patched now."""
    return active_options() is not None


def current_precision() -> str | None:
    """Return the precision of the patch, or None without a patch."""
    options = active_options()
    return options.precision if options else None


def _switch(options: PatchOptions, keras_packages: frozenset[str]) -> None:
    # Restored first: a replacement that wraps its original must not wrap an older wrapper.
    previous = active_options(), _keras_packages
    _restore()
    try:
        _apply(options, keras_packages)
    except BaseException:
        if previous[0] is not None:
            _apply(previous[0], previous[1])
        raise


def _restore() -> None:
    global _keras_packages
    _LEDGER.restore()
    _keras_packages = frozenset()
    activate(None)


def _apply(options: PatchOptions, keras_packages: frozenset[str]) -> None:
    global _keras_packages
    try:
        for contribution in contributions(options, keras_packages):
            _LEDGER.apply(contribution)
    except (AttributeError, ImportError, KeyError, PatchError) as error:
        _LEDGER.restore()
        # bfloat16 without one of its guards would be silently wrong: float32 is not.
        _warn_of_unknown_keras(error)
        options = replace(options, precision="float32")
    except BaseException:
        _LEDGER.restore()
        raise
    _keras_packages = keras_packages
    activate(options)
    _apply_for_worker(keras_packages)


def contributions(
    options: PatchOptions, keras_packages: frozenset[str]
) -> Iterator[Iterator[Replacement]]:
    """Yield what each room replaces; each is to be applied before the next one is asked for.

    What a later room replaces may then wrap what an earlier one has.

    Args:
        options: What the patch is asked for.
        keras_packages: The packages to patch: `"keras"` (Keras 3), `"tf_keras"` (Keras 2) or
            both.

    Raises:
        AttributeError, ImportError, KeyError: This Keras lacks what is to be replaced.
    """
    from nano_init.keras_patch.contributions import keras_replacements

    yield keras_replacements(options, keras_packages)
    if "keras" in keras_packages:
        from nano_init.distributed.repairs import multi_worker_repairs
        from nano_init.process_calls.num_processes import fit_replacements

        yield multi_worker_repairs()
        yield fit_replacements()


def _apply_for_worker(keras_packages: frozenset[str]) -> None:
    """Make a worker of a job train its shares; whatever else is replaced is wrapped by this."""
    from nano_init.distributed.worker_startup import current_membership

    membership = current_membership()
    if membership is not None and keras_packages:
        from nano_init.distributed.replacements import worker_replacements

        _LEDGER.apply(worker_replacements(membership, keras_packages))


def _warn_of_unknown_keras(error: Exception) -> None:
    import sys
    import warnings

    keras = sys.modules.get("keras") or sys.modules.get("tf_keras")
    warnings.warn(
        f"nano-init does not know Keras {getattr(keras, '__version__', '')} ({error}): "
        "Keras stays unpatched and layers stay float32",
        stacklevel=5,
    )
