"""Become another process."""

from __future__ import annotations

import os
import sys

from nano_init.errors import LaunchError
from nano_init.launch.locale_coercion import without_coercion

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from nano_init.launch.command import Command

__all__ = ["execute"]


def execute(command: Command, environ: Mapping[str, str]) -> NoReturn:
    """Replace this process by a command: same PID, same signals, same exit status.

    Args:
        command: what to become.
        environ: this process's environment, which the command's own variables are added to.

    Raises:
        LaunchError: the interpreter cannot be started.
    """
    _flush()
    try:
        os.execve(command.argv[0], command.argv, command.environment(without_coercion(environ)))
    except OSError as error:
        raise LaunchError(f"cannot start {command.argv[0]!r}: {error.strerror}") from error


def _flush() -> None:
    """Write out what stands in the buffers; `exec` would drop it."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:  # closed, as Python leaves it to the program
            continue
        try:
            stream.flush()
        except OSError:
            continue  # the program will meet the same stream, and may not need it
