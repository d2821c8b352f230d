"""Write environment changes as code that a shell can evaluate."""

from __future__ import annotations

import os

from nano_init.errors import UsageError
from nano_init.shells.change import check_change
from nano_init.shells.csh import render_csh
from nano_init.shells.fish import render_fish
from nano_init.shells.posix import render_bash, render_ksh, render_posix, render_zsh
from nano_init.shells.powershell import render_powershell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nano_init.shells.change import Change

__all__ = ["SHELLS", "render"]

_RENDERERS = {
    "ash": render_posix,
    "bash": render_bash,
    "busybox": render_posix,
    "csh": render_csh,
    "dash": render_posix,
    "fish": render_fish,
    "ksh": render_ksh,
    "ksh93": render_ksh,
    "mksh": render_posix,
    "powershell": render_powershell,
    "pwsh": render_powershell,
    "sh": render_posix,
    "tcsh": render_csh,
    "zsh": render_zsh,
}

SHELLS = tuple(_RENDERERS)


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
    if name not in _RENDERERS:
        raise UsageError(f"the shell is {shell!r}; give one of {', '.join(SHELLS)}")
    for change in changes:
        check_change(change)
    return _RENDERERS[name](changes)
