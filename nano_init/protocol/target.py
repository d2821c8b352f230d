"""The program that a user wants to run: a script or a module, with its arguments."""

from __future__ import annotations

import os

from nano_init.frozen import frozen

__all__ = ["Target"]


@frozen
class Target:
    """A Python program to run.

    Args:
        name: a script's path ("-" for stdin), or a module's dotted name.
        arguments: the program's `sys.argv[1:]`.
        is_module: whether to run it as `python -m` does.
    """

    name: str
    arguments: tuple[str, ...] = ()
    is_module: bool = False

    @property
    def is_stdin(self) -> bool:
        """Say whether the program itself comes from stdin."""
        return self.name == "-" and not self.is_module

    @property
    def import_folder(self) -> str:
        """Return the folder that Python puts first in `sys.path` for this program."""
        if self.is_module or self.is_stdin:
            return os.getcwd()
        path = os.path.realpath(self.name)
        return path if os.path.isdir(path) else os.path.dirname(path)

    @property
    def python_arguments(self) -> tuple[str, ...]:
        """Return the arguments that make Python run this program."""
        if self.is_module:
            head: tuple[str, ...] = ("-m", self.name)
        elif self.name.startswith("-") and self.name != "-":
            head = ("--", self.name)  # otherwise Python would take it for options
        else:
            head = (self.name,)
        return (*head, *self.arguments)
