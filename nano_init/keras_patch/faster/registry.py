"""The faster paths by name, and which of them are switched off."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from nano_init.keras_patch.ledger import Replacement

__all__ = ["FASTER_PATHS", "disabled_paths", "faster_path_replacements", "parse_disabled"]

_PACKAGE = "nano_init.keras_patch.faster"

# Each name is its module's too, which has a function `NAME_replacements`.
FASTER_PATHS = (
    "activations",
    "adam",
    "attention",
    "batch_norm",
    "convolution",
    "cross_entropy",
    "depthwise",
    "dropout",
    "einsum_dense",
    "embedding",
    "fit_stall",
    "gru",
    "layer_norm",
    "lstm",
    "rmsprop",
    "sgd",
    "step_call",
)


def parse_disabled(text: str) -> tuple[frozenset[str], str | None]:
    """Return the paths to switch off, and a sentence about unknown names.

    Args:
        text: Names with commas between them, as in `NANO_INIT_DISABLE`; `all` is all of them.

    Returns:
        The known names, and None or one sentence that names the unknown ones.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = frozenset(FASTER_PATHS if "all" in names else names) & frozenset(FASTER_PATHS)
    unknown = sorted({name for name in names if name not in (*FASTER_PATHS, "all")})
    if not unknown:
        return known, None
    listed = ", ".join(repr(name) for name in unknown)
    verb = "is no faster path" if len(unknown) == 1 else "are no faster paths"
    return known, f"{listed} {verb} and cannot be switched off; there are {_listing()}"


def disabled_paths(environ: Mapping[str, str], disable: str | Iterable[str] = ()) -> frozenset[str]:
    """Return the paths that the user switched off, by the environment or by argument.

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
    return known


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


def _listing() -> str:
    return ", ".join(repr(name) for name in FASTER_PATHS) + " and 'all'"
