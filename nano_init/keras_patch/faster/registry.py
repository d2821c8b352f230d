"""The faster paths by name, and which of them are switched off."""

from __future__ import annotations

from nano_init.protocol.faster_paths import FASTER_PATHS, parse_disabled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from nano_init.keras_patch.ledger import Replacement

__all__ = ["FASTER_PATHS", "disabled_paths", "faster_path_replacements", "parse_disabled"]

_PACKAGE = "nano_init.keras_patch.faster"


def disabled_paths(
    environ: Mapping[str, str], disable: str | Iterable[str] = ()
) -> tuple[str, ...]:
    """Return the paths that the user switched off, by the environment or by argument, in order.

    Args:
        environ: The environment; `NANO_INIT_DISABLE` is read.
        disable: Names, or one text with commas between them.

    Warns:
        UserWarning: A name is unknown; the others count.
    """
    import warnings

    asked = disable if isinstance(disable, str) else ",".join(disable)
    known, sentence = parse_disabled(f"{environ.get('NANO_INIT_DISABLE', '')},{asked}")
    if sentence:
        warnings.warn(f"nano-init: {sentence}", stacklevel=3)
    return tuple(name for name in FASTER_PATHS if name in known)


def faster_path_replacements(disabled: Iterable[str] = ()) -> Iterator[Replacement]:
    """Yield the replacements of every faster path that is not switched off.

    A path that does not know this Keras is left out with one warning; the others stand.

    Args:
        disabled: Names of `FASTER_PATHS`.
    """
    left_out = frozenset(disabled)
    for name in FASTER_PATHS:
        if name not in left_out:
            yield from _replacements_of(name)


def _replacements_of(name: str) -> list[Replacement]:
    import warnings
    from importlib import import_module

    module = import_module(f"{_PACKAGE}.{name}")
    try:
        return list(getattr(module, f"{name}_replacements")())
    except (AttributeError, ImportError, KeyError) as error:
        warnings.warn(
            f"nano-init: the faster path {name!r} does not know this Keras ({error}); "
            "Keras's own code runs instead",
            stacklevel=3,
        )
        return []
