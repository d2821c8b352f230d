"""What a run asks of training beside its precision: as options, as a payload, in words."""

from __future__ import annotations

from nano_init.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["TrainingOptions", "parse_training_options"]


@frozen
class TrainingOptions:
    """The keyword arguments of `patch_tensorflow` that a run gives.

    Args:
        disable: faster paths to switch off, known ones only, or "all".
        lazy_adam: Adam updates only the rows that a sparse gradient names.
        steps_per_execution: a number from 2, "auto", or None for Keras's own 1.
        warning: one sentence about names that are no faster path, or None.
    """

    disable: tuple[str, ...] = ()
    lazy_adam: bool = False
    steps_per_execution: int | str | None = None
    warning: str | None = None

    def payload(self) -> dict[str, object]:
        """Return what differs from the defaults, by the names that `patch_tensorflow` has."""
        given = {
            "disable": self.disable,
            "lazy_adam": self.lazy_adam,
            "steps_per_execution": self.steps_per_execution,
        }
        return {name: value for name, value in given.items() if value}

    def describe(self) -> tuple[str, ...]:
        """Return a phrase for each option that was given."""
        phrases = []
        if self.lazy_adam:
            phrases.append("lazy Adam")
        if self.steps_per_execution == "auto":
            phrases.append("several steps per execution")
        elif self.steps_per_execution:
            phrases.append(f"{self.steps_per_execution} steps per execution")
        if self.disable:
            names = ", ".join(self.disable)
            phrases.append("no faster paths" if names == "all" else f"without {names}")
        return tuple(phrases)


def parse_training_options(
    disable: Iterable[str] = (), *, lazy_adam: bool = False, steps: str | None = None
) -> TrainingOptions:
    """Return the options that a command line gives.

    Args:
        disable: names of faster paths, each text with commas between them.
        lazy_adam: whether `--lazy-adam` was given.
        steps: the value of `--steps-per-execution`, if it was given.

    Raises:
        UsageError: the number of steps is none.
    """
    names, warning = _parse_names(",".join(disable))
    number: int | str | None = None
    if steps is not None:
        from nano_init.plan.steps import parse_steps_per_execution

        number = parse_steps_per_execution(steps)
    return TrainingOptions(names, lazy_adam, number, warning)


def _parse_names(text: str) -> tuple[tuple[str, ...], str | None]:
    if not text:
        return (), None
    from nano_init.keras_patch.faster.registry import FASTER_PATHS, parse_disabled

    known, warning = parse_disabled(text)
    if len(known) == len(FASTER_PATHS):
        return ("all",), warning
    return tuple(name for name in FASTER_PATHS if name in known), warning
