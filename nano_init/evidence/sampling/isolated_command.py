"""How a command is started so that it sees all files and changes none. Pure."""

from __future__ import annotations

import sys

from nano_init.protocol.programs import ISOLATION
from nano_init.protocol.variables import ISOLATED_PRELOAD_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["isolated_command", "postpone_preload"]


def isolated_command(
    argv: Sequence[str], status: int, scratch: str, megabytes: int
) -> tuple[str, ...]:
    """Return the command that runs another one isolated.

    Args:
        argv: the command; the path of its program is absolute.
        status: a descriptor to tell on why nothing was started.
        scratch: an empty folder.
        megabytes: the most that may be written.
    """
    return (sys.executable, "-I", "-S", ISOLATION, str(status), scratch, str(megabytes), *argv)


def postpone_preload(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment to start an isolated command with: it preloads nothing before that.

    A library may start a thread, as jemalloc does to give memory back, and a process with
    threads enters no user namespace (unshare(2), EINVAL).

    Args:
        environ: the environment of the command.
    """
    started = dict(environ)
    if "LD_PRELOAD" in started:
        started[ISOLATED_PRELOAD_VARIABLE] = started.pop("LD_PRELOAD")
    return started
