"""The names of the faster paths, and which of them a text switches off. Pure."""

from __future__ import annotations

__all__ = ["FASTER_PATHS", "parse_disabled"]

# Each name is that of a module of `keras_patch` too, which has a function
# `NAME_replacements`.
FASTER_PATHS = (
    "activations",
    "adam",
    "attention",
    "batch_norm",
    "collection_pause",
    "convolution",
    "cross_entropy",
    "depthwise",
    "dropout",
    "einsum_dense",
    "embedding",
    "fit_stall",
    "gru",
    "layer_norm",
    "lazy_imports",
    "lstm",
    "one_trace",
    "rmsprop",
    "sgd",
    "step_call",
    "step_scalars",
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


def _listing() -> str:
    return ", ".join(repr(name) for name in FASTER_PATHS) + " and 'all'"
