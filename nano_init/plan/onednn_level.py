"""The ISA level whose kernels oneDNN takes. Pure."""

from __future__ import annotations

from nano_init.machine.isa import LEVELS
from nano_init.plan.library_variables import onednn_setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["onednn_level"]


def onednn_level(level: str | None, environ: Mapping[str, str]) -> str | None:
    """Return the lower one of the processor's level and ONEDNN_MAX_CPU_ISA.

    A value that oneDNN does not know, such as ALL, is no limit (oneDNN 3.7,
    src/cpu/x64/cpu_isa_traits.cpp, `init_max_cpu_isa`).

    Args:
        level: The processor's level by oneDNN's name; None if it has none.
        environ: The environment.
    """
    ceiling = onednn_setting(environ, "MAX_CPU_ISA")[1].upper()
    if level is None or ceiling not in LEVELS:
        return level
    return min(level, ceiling, key=LEVELS.index)
