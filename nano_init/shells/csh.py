"""Code for csh and tcsh: eval "`nano-init --shell csh`"."""

from __future__ import annotations

from nano_init.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nano_init.shells.change import Change

__all__ = ["quote_csh", "render_csh"]


def quote_csh(value: str) -> str:
    """Quote a value for csh, where history substitution works inside single quotes too.

    Source: tcsh(1), "Lexical structure" and "History substitution".

    Raises:
        UsageError: the value has a line break, which csh cannot take out of `...`.
    """
    if "\n" in value:
        raise UsageError(f"csh cannot represent {value!r}: it contains a line break")
    return "'" + value.replace("'", "'\\''").replace("!", "\\!") + "'"


def render_csh(changes: Sequence[Change]) -> str:
    """Return code that makes changes in csh or tcsh.

    Raises:
        UsageError: csh cannot represent a value.
    """
    # One line: in csh, "`...`" makes a word of every line, and eval joins words by blanks.
    return "; ".join(_action(change) for change in changes) + ("\n" if changes else "")


def _action(change: Change) -> str:
    if change.after is None:
        return f"unsetenv {change.name}"
    return f"setenv {change.name} {quote_csh(change.after)}"
