"""All parts of the patch, with their replacements in Keras and TensorFlow."""

from __future__ import annotations

import functools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nano_init.keras_patch.ledger import Replacement
    from nano_init.protocol.patch_options import PatchOptions

    # Yields a part's replacements; earlier parts are installed by then.
    Producer = Callable[[], Iterable[Replacement]]

__all__ = ["keras_producers"]


def keras_producers(options: PatchOptions, keras_packages: frozenset[str]) -> dict[str, Producer]:
    """Return the functions that yield the replacements of each requested part, in order.

    Args:
        options: The options of the patch; `disable` holds known names.
        keras_packages: The packages to patch: `"keras"` (Keras 3), `"tf_keras"` (Keras 2) or
            both.
    """
    from nano_init.keras_patch.frame_filters import frame_filter_replacements

    producers: dict[str, Producer] = {"frame_filters": frame_filter_replacements}
    is_mixed = options.precision != "float32"
    if keras_packages and is_mixed:
        producers.update(_operation_guards(keras_packages))
    if "keras" in keras_packages:
        producers.update(_faster_parts(options))
        if is_mixed:
            producers.update(_keras_3_guards(options))
    if "tf_keras" in keras_packages:
        producers.update(_path_parts(options, "tf_keras"))
        if options.lazy_adam or options.steps_per_execution not in (None, 1):
            _say_what_legacy_lacks()
        if is_mixed:
            producers.update(_legacy_guards(options))
    return producers


def _operation_guards(keras_packages: frozenset[str]) -> dict[str, Producer]:
    from nano_init.keras_patch.precision.arrays import array_replacements
    from nano_init.keras_patch.precision.autocast import autocast_replacements
    from nano_init.keras_patch.precision.control_flow import control_flow_replacements
    from nano_init.keras_patch.precision.exports import export_replacements
    from nano_init.keras_patch.precision.inner_outputs import inner_output_replacements
    from nano_init.keras_patch.precision.layer_policies import keras_policies, legacy_policies

    policies = {"keras": keras_policies, "tf_keras": legacy_policies}
    return {
        "operands": autocast_replacements,
        "control_flow": control_flow_replacements,
        "arrays": lambda: array_replacements(keras_packages),
        "inner_outputs": inner_output_replacements,
        "exports": lambda: export_replacements(
            {name: policies[name]() for name in sorted(keras_packages)}
        ),
    }


def _say_what_legacy_lacks() -> None:
    from nano_init.keras_patch.notice import say_once

    say_once("lazy Adam and steps per execution need Keras 3; they do not apply to tf_keras")


def _faster_parts(options: PatchOptions) -> dict[str, Producer]:
    """Return the parts for Keras 3 that do not depend on the precision."""
    from nano_init.keras_patch.sparse.lazy_adam import lazy_adam_replacements
    from nano_init.keras_patch.sparse.repeated_ids import repeated_ids_replacements
    from nano_init.keras_patch.steps.step_blocks import step_block_replacements

    producers: dict[str, Producer] = {
        "repeated_ids": lambda: repeated_ids_replacements(lazy_adam=options.lazy_adam),
        **_path_parts(options, "keras"),
    }
    if options.lazy_adam:
        producers["lazy_adam"] = lazy_adam_replacements
    if options.steps_per_execution != 1:
        producers["steps_per_execution"] = lambda: step_block_replacements(
            options.steps_per_execution
        )
    return producers


def _path_parts(options: PatchOptions, package: str) -> dict[str, Producer]:
    from nano_init.keras_patch.faster.registry import path_replacements, paths_for

    return {
        name: functools.partial(path_replacements, name)
        for name in paths_for(package)
        if name not in options.disable
    }


def _keras_3_guards(options: PatchOptions) -> dict[str, Producer]:
    from nano_init.keras_patch.precision.boundary import boundary_replacements
    from nano_init.keras_patch.precision.exact_inputs import exact_input_replacements
    from nano_init.keras_patch.precision.exports import keras_export_replacements
    from nano_init.keras_patch.precision.extra_losses import extra_loss_replacements
    from nano_init.keras_patch.precision.kept_layers import kept_layer_replacements
    from nano_init.keras_patch.precision.layer_policies import keras_policies
    from nano_init.keras_patch.precision.own_policy import policy_file_replacements
    from nano_init.keras_patch.precision.policy import default_policy_replacements
    from nano_init.keras_patch.precision.preprocessing import preprocessing_replacements
    from nano_init.keras_patch.precision.unable_layers import unable_layer_replacements

    return {
        "default_policy": lambda: default_policy_replacements(options.precision),
        "boundary": boundary_replacements,
        "exact_inputs": exact_input_replacements,
        "preprocessing": preprocessing_replacements,
        "extra_losses": extra_loss_replacements,
        **_when(options.keep_float32, "kept_layers", kept_layer_replacements),
        "unable_layers": unable_layer_replacements,
        "policy_files": policy_file_replacements,
        "keras_exports": lambda: keras_export_replacements(keras_policies()),
    }


def _legacy_guards(options: PatchOptions) -> dict[str, Producer]:
    from nano_init.keras_patch.precision.kept_layers import legacy_kept_layer_replacements
    from nano_init.keras_patch.precision.legacy import legacy_replacements

    return {
        "legacy": lambda: legacy_replacements(options.precision),
        **_when(options.keep_float32, "legacy_kept_layers", legacy_kept_layer_replacements),
    }


def _when(
    patterns: tuple[str, ...], name: str, act: Callable[[tuple[str, ...]], Iterable[Replacement]]
) -> dict[str, Producer]:
    return {name: functools.partial(act, patterns)} if patterns else {}
