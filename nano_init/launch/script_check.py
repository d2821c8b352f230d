"""Check that Python can open a program before it starts, and suggest what was meant."""

from __future__ import annotations

import os

from nano_init.errors import LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nano_init.protocol.target import Target

__all__ = ["check_target"]


def check_target(target: Target) -> None:
    """Raise an error if Python could not open the program.

    Modules are not checked: Python's own message and exit status are what users expect.

    Raises:
        LaunchError: the script does not exist, is a folder that cannot be run, or cannot
            be read.
    """
    name = target.name
    if target.is_module or target.is_stdin:
        return
    if not os.path.exists(name):
        raise LaunchError(f"script not found: {name!r}{_hint(target)}")
    if os.path.isdir(name) and not os.path.exists(os.path.join(name, "__main__.py")):
        raise LaunchError(f"{name!r} is a folder without __main__.py; name a script in it")
    if not os.access(name, os.R_OK):
        raise LaunchError(f"script {name!r} cannot be read; check its permissions")


def _hint(target: Target) -> str:
    program = os.path.basename(target.name)
    if program.startswith("python") and target.arguments:
        from shlex import join

        return f"; leave out the word {target.name}: nano-run {join(target.arguments)}"
    if os.path.exists(f"{target.name}.py"):
        return f"; did you mean {target.name}.py?"
    module = target.name.replace(".", "/")
    if "/" not in target.name and os.path.exists(os.path.join(module, "__main__.py")):
        return f"; to run the module: nano-run -m {target.name}"
    command = _find_python_command(target.name)
    return f"; to run the command: nano-run {command}" if command else "; check the path"


def _find_python_command(name: str) -> str | None:
    """Return the path of a command that is a Python program, such as pytest, or None."""
    from shutil import which

    path = which(name)
    if path is None or not os.access(path, os.R_OK):
        return None
    with open(path, "rb") as file:
        first_line = file.readline(512)
    return path if first_line.startswith(b"#!") and b"python" in first_line else None
