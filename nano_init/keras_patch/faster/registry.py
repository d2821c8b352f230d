"""The faster paths by name, and the paths that are switched off."""

from __future__ import annotations

from nano_init.protocol.faster_paths import FASTER_PATHS, PATH_RECORDS, parse_disabled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nano_init.keras_patch.ledger import Replacement

__all__ = ["FASTER_PATHS", "disabled_paths", "parse_disabled", "path_replacements", "paths_for"]

_PACKAGE = "nano_init.keras_patch.faster"
_RECORDS = {record.name: record for record in PATH_RECORDS}


def disabled_paths(
    environ: Mapping[str, str], disable: str | Iterable[str] = ()
) -> tuple[str, ...]:
    """Return the paths that the user switched off in the environment or by argument, in order.

    Args:
        environ: The environment; `NANO_INIT_DISABLE` is read.
        disable: Names, or one text with comma-separated names.

    Warns:
        UserWarning: A name is unknown; the others apply.
    """
    import warnings

    asked = disable if isinstance(disable, str) else ",".join(disable)
    known, sentence = parse_disabled(f"{environ.get('NANO_INIT_DISABLE', '')},{asked}")
    if sentence:
        warnings.warn(f"nano-init: {sentence}", stacklevel=3)
    return tuple(name for name in FASTER_PATHS if name in known)


def paths_for(keras_package: str) -> tuple[str, ...]:
    """Return the paths for a Keras package, in order.

    Args:
        keras_package: `"keras"` (Keras 3) or `"tf_keras"` (Keras 2).
    """
    return tuple(r.name for r in PATH_RECORDS if keras_package in r.keras_packages)


def path_replacements(name: str) -> Iterable[Replacement]:
    """Return the replacements of one faster path.

    Args:
        name: One of `FASTER_PATHS`.

    Raises:
        AttributeError, ImportError, KeyError: This Keras lacks a callable to replace.
    """
    from importlib import import_module

    if not _RECORDS[name].targets:
        return ()  # it acts on the import, before there is anything to replace
    module = import_module(f"{_PACKAGE}.{name}")
    replacements: Iterable[Replacement] = getattr(module, f"{name}_replacements")()
    return replacements
