"""The options of the Keras patch: one value for the launcher, the program and its workers.

It is passed to the program as JSON of the keyword arguments of `patch_tensorflow`.
"""

from __future__ import annotations

from nano_init.errors import UsageError
from nano_init.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "PatchOptions",
    "parse_keep_float32",
    "parse_patch_options",
    "parse_steps_per_execution",
    "patch_options_from_json",
]

_MOST_STEPS = 1_000_000


@frozen
class PatchOptions:
    """The keyword arguments of `patch_tensorflow`, and who chose the precision.

    Args:
        precision: "float32" or "mixed_bfloat16"; "auto" until a plan has chosen.
        keep_float32: patterns, as in `fnmatch`, of the layers that stay in float32.
        disable: names of known faster paths to switch off, or "all".
        lazy_adam: Adam updates only the rows that a sparse gradient names.
        steps_per_execution: the number of training steps that `fit` runs before it returns to
            Python. None and "auto" find the number; "auto" also reports why a fit cannot.
        is_chosen: whether nano-run chose bfloat16, not the user. If the script then fails, one
            line names the option that avoids it.
    """

    precision: str = "auto"
    keep_float32: tuple[str, ...] = ()
    disable: tuple[str, ...] = ()
    lazy_adam: bool = False
    steps_per_execution: int | str | None = None
    is_chosen: bool = False

    def to_json(self) -> str:
        """Return the options as a JSON object, without those with default values."""
        given = {name: value for name, value in vars(self).items() if value}
        # Importing json costs 3 ms before every script; a precision needs no escaping.
        if given.keys() <= {"precision", "is_chosen"}:
            chosen = ', "is_chosen": true' if self.is_chosen else ""
            return f'{{"precision": "{self.precision}"{chosen}}}'
        import json

        return json.dumps(given)

    def describe(self) -> tuple[str, ...]:
        """Return a phrase for each option that changes how training runs, except the precision."""
        phrases = []
        if self.lazy_adam:
            phrases.append("lazy Adam")
        if self.steps_per_execution == "auto":
            phrases.append("several steps per execution")
        elif self.steps_per_execution == 1:
            phrases.append("one step per execution")
        elif self.steps_per_execution:
            phrases.append(f"{self.steps_per_execution} steps per execution")
        if self.disable:
            names = ", ".join(self.disable)
            phrases.append("no faster paths" if names == "all" else f"without {names}")
        return tuple(phrases)


def patch_options_from_json(text: str) -> PatchOptions:
    """Return the options that `PatchOptions.to_json` wrote.

    Raises:
        TypeError: The text names an unknown option.
        ValueError: The text is not JSON.
    """
    import json

    given = json.loads(text)
    values = {n: tuple(v) if isinstance(v, list) else v for n, v in given.items()}
    return PatchOptions(**{"precision": "float32", **values})  # type: ignore[arg-type]


def parse_patch_options(
    precision: str = "auto",
    keep_float32: tuple[str, ...] = (),
    disable: Iterable[str] = (),
    *,
    lazy_adam: bool = False,
    steps: str | None = None,
) -> tuple[PatchOptions, str | None]:
    """Return the options on a command line, and a warning or None.

    Args:
        precision: the name; it is not checked here.
        keep_float32: patterns of layers.
        disable: texts with comma-separated names of faster paths.
        lazy_adam: whether `--lazy-adam` was given.
        steps: the value of `--steps-per-execution`, if it was given.

    Raises:
        UsageError: a pattern or the number of steps is wrong.
    """
    names, warning = _parse_names(",".join(disable))
    return (
        PatchOptions(
            precision,
            parse_keep_float32(keep_float32),
            names,
            lazy_adam,
            parse_steps_per_execution(steps),
        ),
        warning,
    )


def parse_keep_float32(value: object) -> tuple[str, ...]:
    """Return the patterns of layers to keep in float32.

    Args:
        value: One or several `fnmatch` patterns of layer names or class names.

    Raises:
        UsageError: A pattern is empty or not a string.
    """
    patterns = (value,) if isinstance(value, str) else value
    if not isinstance(patterns, (tuple, list, set, frozenset)):
        raise UsageError(f"keep_float32 is {value!r}; give layer patterns, such as ('head*',)")
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise UsageError(f"keep_float32 holds {pattern!r}; give the name of a layer or class")
        if not pattern.strip():
            raise UsageError(
                f"the pattern {pattern!r} of layers to keep in float32 is empty; give a name, "
                "as 'head*'"
            )
    return tuple(patterns)


def parse_steps_per_execution(value: str | int | None) -> int | str | None:
    """Return a number of steps, "auto" or None.

    Args:
        value: the user's value.

    Raises:
        UsageError: it is none of these.
    """
    if value is None or value == "auto":
        return value
    is_number = isinstance(value, int) and not isinstance(value, bool)
    text = str(value) if is_number else value
    if not isinstance(text, str) or not (text.isascii() and text.isdigit()):
        raise UsageError(f"steps per execution is {value!r}; give a whole number from 1, or auto")
    if not 1 <= int(text) <= _MOST_STEPS:
        raise UsageError(f"steps per execution is {value!r}; give a number from 1 to {_MOST_STEPS}")
    return int(text)


def _parse_names(text: str) -> tuple[tuple[str, ...], str | None]:
    if not text:
        return (), None
    from nano_init.protocol.faster_paths import FASTER_PATHS, parse_disabled

    known, warning = parse_disabled(text)
    if len(known) == len(FASTER_PATHS):
        return ("all",), warning
    return tuple(name for name in FASTER_PATHS if name in known), warning
