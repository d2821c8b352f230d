"""The table of `NANO_*` variables, read from the comments of `protocol/variables.py`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from nano_init.protocol import variables

__all__ = ["NanoVariable", "read_variables", "variables_markdown"]

_USER_SECTION = "Set by the user"


@dataclass(frozen=True)
class NanoVariable:
    """One environment variable.

    Args:
        name: its name.
        meaning: what it holds, in a sentence or two.
        section: who sets it, and for whom.
    """

    name: str
    meaning: str
    section: str

    @property
    def is_user(self) -> bool:
        """Whether a user sets it."""
        return self.section == _USER_SECTION


def read_variables() -> list[NanoVariable]:
    """Return all variables of nano-init's own, in the order of the module."""
    source = Path(variables.__file__).read_text(encoding="utf-8")
    found: list[NanoVariable] = []
    comment: list[str] = []
    section = ""
    for line in source.splitlines():
        heading = re.fullmatch(r"# -- (.+?) -*", line)
        constant = re.fullmatch(r'[A-Z_]+ = "(NANO_[A-Z_]+)"(?:  #.*)?', line)
        if heading:
            section, comment = heading[1], []
        elif line.startswith("# "):
            comment.append(line.removeprefix("# "))
        elif constant:
            name = constant[1]
            name = f"{name}OPTION" if name.endswith("_") else name
            found.append(NanoVariable(name, " ".join(comment), section))
            comment = []
        else:
            comment = []
    return found


def variables_markdown() -> str:
    """Return one table for each section of the module."""
    known = read_variables()
    parts = []
    for section in dict.fromkeys(variable.section for variable in known):
        rows = [f"| `{v.name}` | {v.meaning} |" for v in known if v.section == section]
        parts.append(
            "\n".join([f"### {section}", "", "| variable | meaning |", "| --- | --- |", *rows])
        )
    return "\n\n".join(parts) + "\n"
