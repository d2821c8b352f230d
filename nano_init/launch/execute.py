"""Become another process."""

from __future__ import annotations

import os

from nano_init.errors import LaunchError
from nano_init.launch.locale_coercion import without_locale_coercion
from nano_init.message import flush_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from nano_init.launch.command import Command

__all__ = ["execute"]


def execute(command: Command, environ: Mapping[str, str]) -> NoReturn:
    """Replace this process with a command: same PID, same signals, same exit status.

    Args:
        command: the command to execute.
        environ: this process's environment, to which the command's variables are added.

    Raises:
        LaunchError: the interpreter cannot be started.
    """
    flush_output()  # `exec` discards what is still buffered
    whole = command.environment(without_locale_coercion(environ))
    try:
        os.execve(command.argv[0], command.argv, whole)
    except OSError as error:
        raise LaunchError(f"cannot start {command.argv[0]!r}: {error.strerror}") from error
