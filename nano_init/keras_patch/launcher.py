"""The patch as `nano-run` applies it inside the user's process."""

from __future__ import annotations

from nano_init.keras_patch.precision.way_out import name_way_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


__all__ = ["apply_from_launcher"]


def apply_from_launcher(options: Mapping[str, object], name: str) -> None:
    """Patch Keras as the launcher was asked to; on failure say so and let the script run.

    Args:
        options: The keyword arguments of `patch_tensorflow`, such as
            `{"precision": "mixed_bfloat16"}`; `is_chosen` beside them says that the launcher,
            not the user, chose the precision.
        name: The package that has just been imported, `"keras"` or `"tf_keras"`.
    """
    from nano_init.distributed.worker_startup import current_membership

    try:
        from nano_init.patch import current_precision, patch_imported

        arguments = {key: value for key, value in options.items() if key != "is_chosen"}
        patch_imported(name, **arguments)  # type: ignore[arg-type]
        if options.get("is_chosen") and current_precision() == "mixed_bfloat16":
            name_way_out()
    # Whatever fails here must not fail the user's `import keras`; a worker that is not patched
    # would hold up or mislead all others.
    except Exception as error:
        if current_membership() is not None:
            raise
        import sys

        cause = str(error).strip().splitlines() or [type(error).__name__]
        print(f"nano-run: {cause[0]}; the script runs unpatched", file=sys.stderr)
