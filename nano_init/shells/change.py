"""A change of one environment variable, which knows its own way back."""

from __future__ import annotations

from nano_init.errors import UsageError
from nano_init.frozen import frozen
from nano_init.plan.library_variables import STEERING_PREFIXES
from nano_init.protocol.variables import OPTION_PREFIX, STATE_VARIABLE

__all__ = ["Change", "check_change", "may_change"]

# A closed list, because assigning to some names runs code or breaks the shell: PATH and IFS
# everywhere, `path` and `status` in zsh, and every variable with the integer attribute
# (SECONDS, OPTIND, HISTSIZE, …) evaluates its value as arithmetic, command substitutions
# included (zshmisc, "Arithmetic Evaluation"). A hostile undo state must not reach them.
_PREFIXES = (
    *STEERING_PREFIXES,
    "BLIS_",
    "LIBXSMM_",
    "MALLOC_",
    "NANO_INIT_",
    OPTION_PREFIX,
    "NUMEXPR_",
    "OPENBLAS_",
    "TCMALLOC_",
    "VECLIB_",
)
_NAMES = ("LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "GLIBC_TUNABLES")
_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")


@frozen
class Change:
    """One environment variable, before and after.

    Args:
        name: the variable's name.
        before: its value before, "" where it is empty, None where it is unset.
        after: its value afterwards, likewise.
    """

    name: str
    before: str | None
    after: str | None


def may_change(name: str) -> bool:
    """Say whether nano-init may change a variable: it steers a numerical library or nano-init.

    The undo state itself is excluded: it is written next to the changes that it records.
    """
    known = name.startswith(_PREFIXES) or name in _NAMES
    return known and _LETTERS.issuperset(name) and name != STATE_VARIABLE


def check_change(change: Change) -> None:
    """Check that nano-init may make a change.

    Raises:
        UsageError: its name is none that nano-init may change, or its value cannot stand
            in an environment.
    """
    if not (may_change(change.name) or change.name == STATE_VARIABLE):
        raise UsageError(f"{change.name!r} is not a variable that nano-init may change")
    if "\0" in (change.after or ""):
        raise UsageError(f"{change.name} cannot represent {change.after!r}: it contains a NUL")
