"""Everything that the patch replaces in Keras and TensorFlow within one process."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from nano_init.keras_patch.ledger import Replacement
    from nano_init.protocol.patch_options import PatchOptions

__all__ = ["keras_replacements"]


def keras_replacements(
    options: PatchOptions, keras_packages: frozenset[str]
) -> Iterator[Replacement]:
    """Yield what is replaced for a precision, sparse gradients, faster paths and steps.

    Args:
        options: What the patch is asked for; `disable` holds known names.
        keras_packages: The packages to patch: `"keras"` (Keras 3), `"tf_keras"` (Keras 2) or
            both.

    Raises:
        AttributeError, ImportError, KeyError: This Keras lacks what is to be replaced.
    """
    from nano_init.keras_patch.frame_filters import frame_filter_replacements

    yield from frame_filter_replacements()
    if keras_packages and options.precision != "float32":
        yield from _operation_replacements(keras_packages)
    if "keras" in keras_packages:
        yield from _keras_3_replacements(options)
    if "tf_keras" in keras_packages:
        from nano_init.keras_patch.precision.legacy import legacy_replacements

        if options.lazy_adam or options.steps_per_execution not in (None, 1):
            _say_what_legacy_lacks()
        yield from legacy_replacements(options.precision, options.keep_float32)


def _operation_replacements(keras_packages: frozenset[str]) -> Iterator[Replacement]:
    from nano_init.keras_patch.precision.arrays import array_replacements
    from nano_init.keras_patch.precision.autocast import autocast_replacements
    from nano_init.keras_patch.precision.control_flow import control_flow_replacements
    from nano_init.keras_patch.precision.exports import export_replacements
    from nano_init.keras_patch.precision.inner_outputs import inner_output_replacements
    from nano_init.keras_patch.precision.layer_policies import keras_policies, legacy_policies

    policies = {"keras": keras_policies, "tf_keras": legacy_policies}
    yield from autocast_replacements()
    yield from control_flow_replacements()
    yield from array_replacements(keras_packages)
    yield from inner_output_replacements()
    yield from export_replacements({name: policies[name]() for name in sorted(keras_packages)})


def _say_what_legacy_lacks() -> None:
    from nano_init.keras_patch.notice import say_once

    say_once("lazy Adam and steps per execution are for Keras 3; tf_keras stays without them")


def _keras_3_replacements(options: PatchOptions) -> Iterator[Replacement]:
    from nano_init.keras_patch.faster.registry import faster_path_replacements
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
    from nano_init.keras_patch.sparse.lazy_adam import with_lazy_adam
    from nano_init.keras_patch.sparse.repeated_ids import repeated_ids_replacements
    from nano_init.keras_patch.steps.step_blocks import step_block_replacements

    yield from default_policy_replacements(options.precision)
    yield from repeated_ids_replacements(lazy_adam=options.lazy_adam)
    paths = faster_path_replacements(options.disable)
    yield from with_lazy_adam(paths) if options.lazy_adam else paths
    yield from step_block_replacements(options.steps_per_execution)
    if options.precision != "float32":
        yield from boundary_replacements()
        yield from exact_input_replacements()
        yield from preprocessing_replacements()
        yield from extra_loss_replacements()
        yield from kept_layer_replacements(options.keep_float32)
        yield from unable_layer_replacements()
        yield from policy_file_replacements()
        yield from keras_export_replacements(keras_policies())
