"""Patch Keras in place and take the patch out again."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from nano_init.errors import PatchError
from nano_init.keras_patch.ledger import Ledger
from nano_init.plan.precision import check_precision
from nano_init.protocol.patch_options import parse_keep_float32, parse_steps_per_execution

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from nano_init.keras_patch.ledger import Replacement

__all__ = [
    "current_options",
    "current_precision",
    "is_patched",
    "patch_imported",
    "patch_tensorflow",
    "unpatch_tensorflow",
]

_LOCK = threading.RLock()
_LEDGER = Ledger()


@dataclass(frozen=True)
class Request:
    """What a patch was asked for.

    Args:
        precision: `"float32"` or `"mixed_bfloat16"`.
        kerases: The packages to patch: `"keras"` (Keras 3), `"tf_keras"` (Keras 2) or both.
        keep_float32: Patterns of the layers that stay in float32.
        disabled: Faster paths that are switched off.
        lazy_adam: Adam updates only the rows that a sparse gradient names.
        steps_per_execution: How many steps `fit` runs at once, or "auto"; None leaves it to Keras.
    """

    precision: str
    kerases: frozenset[str]
    keep_float32: tuple[str, ...] = ()
    disabled: frozenset[str] = frozenset()
    lazy_adam: bool = False
    steps_per_execution: int | str | None = None


_current: Request | None = None


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
            names: another algorithm, see `nano_init.keras_patch.lazy_adam`.
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
    wanted, kept = check_precision(precision, auto=False), parse_keep_float32(keep_float32)
    import os

    from nano_init.keras_patch.faster.registry import disabled_paths
    from nano_init.keras_patch.requirements import require_kerases

    steps = parse_steps_per_execution(steps_per_execution)
    disabled = disabled_paths(os.environ, disable)
    kerases = require_kerases(os.environ)
    request = Request(wanted, kerases, kept, disabled, bool(lazy_adam), steps)
    with _LOCK:
        if _current != request:
            _switch(request)


def patch_imported(
    name: str,
    precision: str = "float32",
    *,
    keep_float32: str | Collection[str] = (),
    disable: str | Collection[str] = (),
    lazy_adam: bool = False,
    steps_per_execution: int | str | None = None,
) -> None:
    """Patch a Keras that is being imported, beside one that is patched already.

    Unlike `patch_tensorflow`, this imports no Keras that the script has not asked for:
    TensorFlow itself may be half imported at this point.

    Args:
        name: `"keras"` or `"tf_keras"`.
        precision: As for `patch_tensorflow`.
        keep_float32: As for `patch_tensorflow`.
        disable: As for `patch_tensorflow`.
        lazy_adam: As for `patch_tensorflow`.
        steps_per_execution: As for `patch_tensorflow`.

    Raises:
        PrecisionError: The precision is unknown or unfit for training.
        UsageError: A pattern is empty or no string, or the number of steps is none.
        PatchError: Keras runs on another backend.
    """
    wanted, kept = check_precision(precision, auto=False), parse_keep_float32(keep_float32)
    import os

    from nano_init.keras_patch.faster.registry import disabled_paths
    from nano_init.keras_patch.requirements import require_keras_3

    steps = parse_steps_per_execution(steps_per_execution)
    disabled = disabled_paths(os.environ, disable)
    if name == "keras":
        require_keras_3()
    with _LOCK:
        present = _current.kerases if _current else frozenset()
        kerases = present | {name}
        _switch(Request(wanted, kerases, kept, disabled, bool(lazy_adam), steps))


def unpatch_tensorflow() -> None:
    """Restore everything that `patch_tensorflow` replaced; without a patch, do nothing.

    What makes a worker of a job train its shares stays: without it, it would hold up the others.
    """
    with _LOCK:
        kerases = _current.kerases if _current else frozenset()
        _restore()
        _apply_for_worker(kerases)


def _restore() -> None:
    global _current
    _LEDGER.restore()
    _current = None


def is_patched() -> bool:
    """Say whether Keras is patched now."""
    return _current is not None


def current_precision() -> str | None:
    """Return the precision of the patch, or None without a patch."""
    return _current.precision if _current else None


def current_options() -> dict[str, object]:
    """Return the keyword arguments of `patch_tensorflow` in force; empty without a patch."""
    if _current is None:
        return {}
    return {
        "precision": _current.precision,
        "keep_float32": sorted(_current.keep_float32),
        "disable": sorted(_current.disabled),
        "lazy_adam": _current.lazy_adam,
        "steps_per_execution": _current.steps_per_execution,
    }


def _switch(request: Request) -> None:
    global _current
    # Restored first: a replacement that wraps its original must not wrap an older wrapper.
    previous = _current
    _restore()
    try:
        _current = _apply(request)
    except BaseException:
        if previous is not None:
            _current = _apply(previous)
        raise


def _apply(request: Request) -> Request:
    try:
        _LEDGER.apply(replacements(request))
    except (AttributeError, ImportError, KeyError, PatchError) as error:
        # bfloat16 without one of its guards would be silently wrong: float32 is not.
        _warn_of_unknown_keras(error)
        request = replace(request, precision="float32")
    _apply_for_worker(request.kerases)
    return request


def _apply_for_worker(kerases: frozenset[str]) -> None:
    """Make a worker of a job train its shares; whatever else is replaced is wrapped by this."""
    from nano_init.distributed.worker_startup import current_membership

    membership = current_membership()
    if membership is not None and kerases:
        from nano_init.distributed.replacements import worker_replacements

        _LEDGER.apply(worker_replacements(membership, kerases))


def _warn_of_unknown_keras(error: Exception) -> None:
    import sys
    import warnings

    keras = sys.modules.get("keras") or sys.modules.get("tf_keras")
    warnings.warn(
        f"nano-init does not know Keras {getattr(keras, '__version__', '')} ({error}): "
        "Keras stays unpatched and layers stay float32",
        stacklevel=5,
    )


def replacements(request: Request) -> Iterator[Replacement]:
    """Yield everything that the patch replaces for a request.

    Args:
        request: What the patch is asked for.

    Raises:
        AttributeError, ImportError, KeyError: This Keras lacks what is to be replaced.
    """
    if request.kerases and request.precision != "float32":
        yield from _operation_replacements(request.kerases)
    if "keras" in request.kerases:
        yield from _keras_3_replacements(request)
    if "tf_keras" in request.kerases:
        from nano_init.keras_patch.legacy import legacy_replacements

        if request.lazy_adam or request.steps_per_execution:
            _tell_of_legacy()

        yield from legacy_replacements(request.precision, request.keep_float32)


def _operation_replacements(kerases: frozenset[str]) -> Iterator[Replacement]:
    from nano_init.keras_patch.precision.arrays import array_replacements
    from nano_init.keras_patch.precision.autocast import autocast_replacements
    from nano_init.keras_patch.precision.control_flow import control_flow_replacements
    from nano_init.keras_patch.precision.exports import export_replacements
    from nano_init.keras_patch.precision.inner_outputs import inner_output_replacements
    from nano_init.keras_patch.precision.layer_policies import keras_policies, legacy_policies

    policies = {"keras": keras_policies, "tf_keras": legacy_policies}
    yield from autocast_replacements()
    yield from control_flow_replacements()
    yield from array_replacements(kerases)
    yield from inner_output_replacements()
    yield from export_replacements({name: policies[name]() for name in sorted(kerases)})


def _tell_of_legacy() -> None:
    from nano_init.keras_patch.notice import tell_once

    tell_once("lazy Adam and steps per execution are for Keras 3; tf_keras stays without them")


def _keras_3_replacements(request: Request) -> Iterator[Replacement]:
    from nano_init.distributed.repairs import multi_worker_repairs
    from nano_init.keras_patch.boundary import boundary_replacements
    from nano_init.keras_patch.exact_inputs import exact_input_replacements
    from nano_init.keras_patch.extra_losses import extra_loss_replacements
    from nano_init.keras_patch.faster.registry import faster_path_replacements
    from nano_init.keras_patch.kept_layers import kept_layer_replacements
    from nano_init.keras_patch.lazy_adam import with_lazy_adam
    from nano_init.keras_patch.policy import default_policy_replacements
    from nano_init.keras_patch.precision.exports import keras_export_replacements
    from nano_init.keras_patch.precision.layer_policies import keras_policies
    from nano_init.keras_patch.precision.own_policy import policy_file_replacements
    from nano_init.keras_patch.preprocessing import preprocessing_replacements
    from nano_init.keras_patch.repeated_ids import repeated_ids_replacements
    from nano_init.keras_patch.step_blocks import step_block_replacements
    from nano_init.keras_patch.unable_layers import unable_layer_replacements

    yield from default_policy_replacements(request.precision)
    yield from repeated_ids_replacements(lazy_adam=request.lazy_adam)
    yield from multi_worker_repairs()
    paths = faster_path_replacements(request.disabled)
    yield from with_lazy_adam(paths) if request.lazy_adam else paths
    yield from step_block_replacements(request.steps_per_execution)
    if request.precision != "float32":
        yield from boundary_replacements()
        yield from exact_input_replacements()
        yield from preprocessing_replacements()
        yield from extra_loss_replacements()
        yield from kept_layer_replacements(request.keep_float32)
        yield from unable_layer_replacements()
        yield from policy_file_replacements()
        yield from keras_export_replacements(keras_policies())
