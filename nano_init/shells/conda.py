"""conda: variables that an environment sets whenever it is activated."""

from __future__ import annotations

from nano_init.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["render_conda"]

# conda's activators write a value between quotes without escaping what is special there,
# single quotes for POSIX shells and double ones for fish and PowerShell (conda/activate.py).
_SPECIAL = frozenset("'\"$`\\!\n\r")


def render_conda(variables: Mapping[str, str]) -> str:
    """Return the command that stores variables in the active conda environment.

    Source: https://docs.conda.io/projects/conda/en/stable/commands/env/config/vars/set.html

    Raises:
        UsageError: conda would break a value, or take it for unset.
    """
    for name, value in variables.items():
        if not value:
            raise UsageError(f"conda cannot represent {name}='': it treats an empty value as unset")
        if not _SPECIAL.isdisjoint(value):
            raise UsageError(f"conda cannot represent {name}={value!r}: it does not escape quotes")
    if not variables:
        return ""
    words = " ".join(f"'{name}={value}'" for name, value in variables.items())
    return f"conda env config vars set {words}\n"
