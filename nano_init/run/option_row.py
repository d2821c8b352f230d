"""One row of a table of options, which click and the parser that does without it read."""

from __future__ import annotations

from nano_init.frozen import frozen
from nano_init.protocol.variables import OPTION_PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Kind = Literal["flag", "value", "list", "optional"]

__all__ = ["OptionRow"]


@frozen
class OptionRow:
    """One option.

    Args:
        names: as they stand on the command line.
        field: where its value goes: a name, behind "job." or "evidence." for that request's.
        help: what it does; "{paths}" in it stands for the names of the faster paths.
        kind: "flag" takes no value, "value" one, "list" one and may be repeated, "optional" one
            behind "=" or none.
        metavar: what its value is called.
        type: which values there are: the name of a kind, a pair of bounds, or None for any text.
        is_plain: it is read without click.
    """

    names: tuple[str, ...]
    field: str
    help: str
    kind: Kind = "flag"
    metavar: str | None = None
    type: str | tuple[float, float] | None = None
    is_plain: bool = False

    @property
    def variable(self) -> str:
        """Return the environment variable that sets the option."""
        name = next((name for name in self.names if name.startswith("--")), f"--{self.field}")
        return OPTION_PREFIX + name[2:].upper().replace("-", "_")

    @property
    def parameter(self) -> str:
        """Return the name of the argument by which click hands the value on."""
        return self.field.replace(".", "_")
