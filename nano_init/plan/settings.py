"""A plan: what to set and why. Values only; nothing here touches the world."""

from __future__ import annotations

from nano_init.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Status = Literal["set", "kept", "unset"]
    Precision = Literal["float32", "mixed_bfloat16"]

__all__ = ["Options", "Plan", "PrecisionChoice", "Setting", "ThreadCount"]


@frozen
class Options:
    """The options of the user for the environment.

    Args:
        threads: the most cores to use, or None for no such bound.
        allocator: "none", "auto", "jemalloc" or "tcmalloc".
        pin: bind OpenMP threads to cores.
        openmp: set OpenMP's variables.
        force: override the values that the user has set already.
    """

    threads: int | None = None
    allocator: str = "none"
    pin: bool = False
    openmp: bool = True
    force: bool = False


@frozen
class Setting:
    """One environment variable.

    Args:
        name: the variable's name.
        value: its value under the plan; None where it is or will be unset.
        reason: one sentence saying why.
        status: "set" by the plan, "kept" as the user has it, or "unset" by the plan.
    """

    name: str
    value: str | None
    reason: str
    status: Status = "set"


@frozen
class ThreadCount:
    """How many cores training should use, and which bound says so."""

    usable_cores: int
    reason: str


@frozen
class PrecisionChoice:
    """The recommended precision, and why."""

    recommended: Precision
    reason: str


@frozen
class Plan:
    """Everything that was decided for one process."""

    threads: ThreadCount
    precision: PrecisionChoice
    settings: tuple[Setting, ...]
    warnings: tuple[str, ...] = ()

    def environment(self) -> dict[str, str]:
        """Return the variables that the plan sets, by name."""
        return {s.name: s.value for s in self.settings if s.status == "set" and s.value is not None}
