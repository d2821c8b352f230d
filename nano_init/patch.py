"""Patch Keras in place, and undo it: composes the patch from its contributions."""

from __future__ import annotations

import os
import sys
import threading

from nano_init.errors import NanoError, PatchError
from nano_init.frozen import replace
from nano_init.keras_patch.active_options import activate, active_options
from nano_init.keras_patch.active_parts import (
    ACTIVE,
    ActivePaths,
    PartState,
    active_paths,
    note_parts,
)
from nano_init.keras_patch.import_preparation import prepare_import
from nano_init.keras_patch.ledger import Ledger
from nano_init.keras_patch.notice import say_once
from nano_init.keras_patch.part_choice import (
    choose_parts,
    guard_sentence,
    job_sentence,
    path_sentence,
    state_after_failure,
)
from nano_init.plan.precision import check_precision
from nano_init.protocol.patch_options import (
    PatchOptions,
    parse_keep_float32,
    parse_steps_per_execution,
    patch_options_from_json,
)
from nano_init.protocol.patch_parts import ALL_RECORDS
from nano_init.protocol.patch_record import GUARD, WORKER
from nano_init.protocol.variables import COMPILE_SOON_VARIABLE, UNVERIFIED_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from nano_init.keras_patch.contributions import Producer

__all__ = [
    "active_paths",
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
    """Patch Keras in place; layers created from now on use this precision.

    A layer's own `dtype=` wins, and so does a policy that the script sets afterwards. Models
    built before the call keep their policy. Calling it again replaces the previous options.

    Parts of the patch that do not fit the installed Keras or TensorFlow step aside, with one line
    on stderr. If one of them guards bfloat16, layers stay in float32. `nano_init.active_paths()`
    lists what is active.

    Args:
        precision: `"float32"` leaves the dtype policy to Keras. `"mixed_bfloat16"` computes in
            bfloat16 and keeps variables in float32.
        keep_float32: Layers that stay in float32 under `"mixed_bfloat16"`, including the layers
            inside them: `fnmatch` patterns of layer names or class names, such as
            `("head*", "LayerNormalization")`. A pattern that matches no layer does nothing.
        disable: Names of faster paths to switch off, in addition to `NANO_INIT_DISABLE`;
            `"all"` switches off every one.
        lazy_adam: Let Keras 3's Adam and AdamW update only the rows that a sparse gradient
            names. This is a different algorithm with different results.
        steps_per_execution: Number of training steps that `fit` runs before it returns to Python.
            By default, and with `"auto"`, small models run as many as take 50 ms if no callback
            needs every batch; `"auto"` also reports why a fit cannot. 1 is Keras's own way. A
            number that the script passes to `compile` wins.

    Raises:
        PrecisionError: The precision is unknown or unfit for training.
        UsageError: A pattern is empty or not a string, or the number of steps is invalid.
        PatchError: TensorFlow is missing, Keras or TensorFlow is too old, or Keras runs on another
            backend.

    Warns:
        UserWarning: `disable` names an unknown faster path.
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
    """Patch a Keras that is being imported, in addition to one that is already patched.

    Unlike `patch_tensorflow`, this imports no Keras that the script does not import itself:
    TensorFlow may be partially imported at this point.

    Args:
        name: `"keras"` or `"tf_keras"`.
        options: The options of the patch, not yet checked.

    Raises:
        PrecisionError: The precision is unknown or unfit for training.
        UsageError: A pattern is empty or not a string, or the number of steps is invalid.
        PatchError: Keras runs on another backend, or is too old.
    """
    import os

    from nano_init.keras_patch.faster.registry import disabled_paths
    from nano_init.keras_patch.requirements import require_keras_3, require_versions

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
    require_versions(["tensorflow", name])
    with _LOCK:
        _switch(options, _keras_packages | {name})


def apply_from_launcher(options: str, name: str) -> None:
    """Patch Keras as the launcher requested; on failure print a line and let the script run.

    Args:
        options: The text that `PatchOptions.to_json` wrote.
        name: The package that was just imported, `"keras"` or `"tf_keras"`.
    """
    from nano_init.distributed.worker_startup import current_membership

    try:
        asked = patch_options_from_json(options)
        patch_imported(name, asked)
        if os.environ.get(COMPILE_SOON_VARIABLE) == "1":
            from nano_init.keras_patch.faster.deferred import compile_soon
            from nano_init.keras_patch.steps.block_size import make_blocks_soon

            compile_soon()
            make_blocks_soon()
        if asked.is_chosen and current_precision() == "mixed_bfloat16":
            from nano_init.keras_patch.precision.way_out import name_way_out

            name_way_out()
    # An error here must not fail the user's `import keras`. But an unpatched worker would block or
    # corrupt all others.
    except Exception as error:
        if current_membership() is not None:
            if isinstance(error, NanoError):
                _refuse_in_job(str(error))
            if isinstance(error, ImportError):  # `import tensorflow` would continue without Keras
                _refuse_in_job(
                    f"{name} cannot be prepared for several workers ({error}); run the script "
                    "without --nproc-per-node"
                )
            raise
        from nano_init.message import NANO_RUN, say

        cause = str(error).strip().splitlines() or [type(error).__name__]
        say(NANO_RUN, f"{cause[0]}; the script runs unpatched")


def unpatch_tensorflow() -> None:
    """Restore everything that `patch_tensorflow` replaced; do nothing if there is no patch.

    In a worker of a job, the parts that make it train its shard stay in place: without them the
    other workers would wait for it.
    """
    with _LOCK:
        keras_packages = _keras_packages
        _restore()
        _apply_for_worker(keras_packages)


def is_patched() -> bool:
    """Return whether Keras is patched."""
    return active_options() is not None


def current_precision() -> str | None:
    """Return the precision of the patch, or None if Keras is not patched."""
    options = active_options()
    return options.precision if options else None


def _switch(options: PatchOptions, keras_packages: frozenset[str]) -> None:
    # Restored first, so that a replacement never wraps an older wrapper.
    previous = active_options(), _keras_packages
    _restore()
    try:
        _apply(options, keras_packages)
    except BaseException:
        _restore()
        if previous[0] is not None:
            _apply(previous[0], previous[1])
        raise


def _restore() -> None:
    global _keras_packages
    _LEDGER.restore()
    _keras_packages = frozenset()
    activate(None)
    note_parts(ActivePaths())


def _apply(options: PatchOptions, keras_packages: frozenset[str]) -> None:
    """Install the parts that fit this Keras, which is unpatched before."""
    global _keras_packages
    from nano_init.keras_patch.part_verdicts import list_versions

    versions = list_versions(keras_packages)
    states = _put_in_place(options, keras_packages)
    sentence = guard_sentence(versions, states)
    if sentence:
        # Without one of its guards bfloat16 would be silently wrong; float32 needs none.
        _refuse_in_job(f"{sentence}; use --precision float32")
        say_once(sentence)
        _LEDGER.restore()
        options = replace(options, precision="float32")
        guards = tuple(state for state in states if state.kind == GUARD)
        states = (*_put_in_place(options, keras_packages), *guards)
    sentence = path_sentence(versions, states)
    if sentence:
        say_once(sentence)
    _keras_packages = keras_packages
    activate(options)
    note_parts(ActivePaths(options.precision, versions, states))
    _apply_for_worker(keras_packages)


def _put_in_place(options: PatchOptions, keras_packages: frozenset[str]) -> tuple[PartState, ...]:
    """Install the parts that fit, and return the state of each part."""
    from nano_init.keras_patch.part_verdicts import judge_parts

    producers = part_producers(options, keras_packages)
    verdicts = judge_parts(producers, keras_packages)
    # A path for the other Keras is not switched off.
    records = [record for record in ALL_RECORDS if record.keras_packages & keras_packages]
    states = {
        state.name: state
        for state in choose_parts(
            records, producers, verdicts, takes_unverified=_takes_unverified()
        )
    }
    for name, produce in producers.items():
        if states[name].state != ACTIVE:
            continue
        try:
            _LEDGER.apply(produce())
        except (AttributeError, ImportError, KeyError, PatchError) as error:
            states[name] = state_after_failure(states[name], error)
    return tuple(states.values())


def part_producers(options: PatchOptions, keras_packages: frozenset[str]) -> dict[str, Producer]:
    """Return the functions that make each part's replacements, in the order of installation.

    The replacements of a later part may wrap those of an earlier one.

    Args:
        options: The options of the patch.
        keras_packages: The packages to patch: `"keras"` (Keras 3), `"tf_keras"` (Keras 2) or
            both.
    """
    from nano_init.keras_patch.contributions import keras_producers

    producers = keras_producers(options, keras_packages)
    if "keras" in keras_packages:
        from nano_init.distributed.repairs import multi_worker_repairs
        from nano_init.process_calls.num_processes import fit_replacements

        producers.update(multi_worker=multi_worker_repairs, num_processes=fit_replacements)
    return producers


def _apply_for_worker(keras_packages: frozenset[str]) -> None:
    """Make a worker train its shards; these replacements wrap all others."""
    from nano_init.distributed.worker_startup import current_membership

    membership = current_membership()
    if membership is not None and keras_packages:
        from nano_init.distributed.replacements import worker_replacements

        _require_worker_parts(keras_packages)
        _LEDGER.apply(worker_replacements(membership, keras_packages))


def _require_worker_parts(keras_packages: frozenset[str]) -> None:
    from nano_init.keras_patch.part_verdicts import judge_parts, list_versions

    names = [record.name for record in ALL_RECORDS if record.kind == WORKER]
    states = choose_parts(
        ALL_RECORDS, names, judge_parts(names, keras_packages), takes_unverified=_takes_unverified()
    )
    sentence = job_sentence(list_versions(keras_packages), states)
    if sentence:
        _refuse_in_job(sentence)


def _refuse_in_job(sentence: str) -> None:
    """End the job if this process is a worker, because all workers must train the same way."""
    from nano_init.distributed.refusal import refuse
    from nano_init.distributed.worker_startup import current_membership

    if current_membership() is not None:
        refuse(sentence)


def _takes_unverified() -> bool:
    return os.environ.get(UNVERIFIED_VARIABLE) == "1"
