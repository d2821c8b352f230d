"""The exact environment and command that start a program. Pure: values in, values out."""

from __future__ import annotations

import os

from nano_init.errors import LaunchError
from nano_init.frozen import frozen
from nano_init.protocol.programs import BOOTSTRAP_FOLDER
from nano_init.protocol.variables import PATCH_VARIABLE, PRELOAD_VARIABLE, STATE_VARIABLE
from nano_init.shells.change import Change
from nano_init.shells.undo_state import format_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nano_init.plan.settings import Plan
    from nano_init.protocol.patch_options import PatchOptions
    from nano_init.protocol.target import Target

__all__ = ["Command", "format_command", "prepare_command", "prepare_plain_command"]


@frozen
class Command:
    """A command to execute.

    Args:
        argv: its arguments, starting with the interpreter.
        variables: the variables that it adds to the environment.
    """

    argv: tuple[str, ...]
    variables: Mapping[str, str]

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the whole environment of the process."""
        return {**environ, **self.variables}


def prepare_command(
    target: Target,
    plan: Plan,
    patch: PatchOptions,
    environ: Mapping[str, str],
    python: str,
    bootstrap: str = BOOTSTRAP_FOLDER,
) -> Command:
    """Return the command that runs a program under a plan.

    Args:
        target: the program.
        plan: the settings for its environment.
        patch: the options of the patch, with the chosen precision.
        environ: the environment without nano-init's earlier changes; its PYTHONPATH stays in
            force after nano-init's folder.
        python: the interpreter's path.
        bootstrap: the folder to put first in PYTHONPATH.

    Raises:
        LaunchError: PYTHONPATH cannot contain the bootstrap's path.
    """
    variables = plan.environment()
    # Lets a nano-run or shell that the program starts distinguish these from the user's own.
    changes = [Change(name, environ.get(name), value) for name, value in variables.items()]
    variables[STATE_VARIABLE] = format_state(changes)
    variables["PYTHONPATH"] = _put_first(bootstrap, environ.get("PYTHONPATH"))
    if "LD_PRELOAD" in variables:
        own = environ.get("LD_PRELOAD")
        variables[PRELOAD_VARIABLE] = "-" if own is None else f"+{own}"
    variables[PATCH_VARIABLE] = patch.to_json()
    return Command((python, *target.python_arguments), variables)


def prepare_plain_command(
    target: Target, environ: Mapping[str, str], python: str, bootstrap: str = BOOTSTRAP_FOLDER
) -> Command:
    """Return the command that runs a program as plain `python` does, but observable.

    Args:
        target: the program.
        environ: the environment without nano-init's earlier changes.
        python: the interpreter's path.
        bootstrap: the folder to put first in PYTHONPATH.

    Raises:
        LaunchError: PYTHONPATH cannot contain the bootstrap's path.
    """
    path = _put_first(bootstrap, environ.get("PYTHONPATH"))
    return Command((python, *target.python_arguments), {"PYTHONPATH": path})


def _put_first(bootstrap: str, own: str | None) -> str:
    if os.pathsep in bootstrap:
        raise LaunchError(
            f"nano-init is installed under {bootstrap!r}, and PYTHONPATH cannot contain a path "
            f"with {os.pathsep!r}; install it elsewhere"
        )
    # An empty entry means the working directory, but an empty PYTHONPATH means nothing.
    inherited = own.split(os.pathsep) if own else []
    return os.pathsep.join([bootstrap, *(path for path in inherited if path != bootstrap)])


def format_command(command: Command) -> str:
    """Return a command as lines for a POSIX shell."""
    from shlex import join, quote

    exports = [f"export {name}={quote(value)}" for name, value in command.variables.items()]
    return "\n".join([*exports, f"exec {join(command.argv)}"]) + "\n"
