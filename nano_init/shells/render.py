"""Write environment changes as code that a shell can evaluate."""

from __future__ import annotations

import os

from nano_init.errors import UsageError
from nano_init.shells.change import check_change

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nano_init.shells.change import Change

__all__ = ["SHELLS", "render"]

SHELLS = (
    *("ash", "bash", "busybox", "csh", "dash", "fish", "ksh", "ksh93", "mksh", "powershell"),
    *("pwsh", "sh", "tcsh", "zsh"),
)


def render(shell: str, changes: Sequence[Change]) -> str:
    """Return code that makes changes in a shell; "" where there is nothing to change.

    Args:
        shell: the shell's name, or its path, such as "zsh" or "/bin/zsh".
        changes: the changes, as a transition has them.

    Raises:
        UsageError: the shell is unknown, a variable is none that nano-init may change, or
            a value cannot stand in this shell's environment.
    """
    name = os.path.basename(shell).removesuffix(".exe").lstrip("-")
    if name not in SHELLS:
        raise UsageError(f"the shell is {shell!r}; give one of {', '.join(SHELLS)}")
    for change in changes:
        check_change(change)
    return _renderer(name)(changes)


def _renderer(name: str) -> Callable[[Sequence[Change]], str]:
    """Return how to write for a shell; what other shells need is not imported."""
    if name in ("csh", "tcsh"):
        from nano_init.shells.csh import render_csh

        return render_csh
    if name == "fish":
        from nano_init.shells.fish import render_fish

        return render_fish
    if name in ("powershell", "pwsh"):
        from nano_init.shells.powershell import render_powershell

        return render_powershell
    from nano_init.shells import posix

    special = {"bash": posix.render_bash, "zsh": posix.render_zsh}
    return special.get(name, posix.render_ksh if name in ("ksh", "ksh93") else posix.render_posix)
