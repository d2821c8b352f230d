"""One module names every NANO_* variable, including those spelled as literals elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import nano_init
from nano_init.protocol import programs, variables

PACKAGE = Path(nano_init.__file__).parent
NAMES = {getattr(variables, name) for name in variables.__all__}

# These files may not import anything from the package.
LITERALS = ("bootstrap/sitecustomize.py", "instrumentation/isolation_main.py")


def test_literal_names_match_the_module() -> None:
    for path in LITERALS:
        text = (PACKAGE / path).read_text(encoding="utf-8")
        found = set(re.findall(r'"(NANO_[A-Z_]+)"', text))
        assert found
        assert found <= NAMES


def test_no_other_module_spells_out_a_variable() -> None:
    spelled = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if NAMES & set(re.findall(r'"(NANO_[A-Z_]+)"', path.read_text(encoding="utf-8")))
    }
    assert spelled == {*LITERALS, "protocol/variables.py"}


def test_each_variable_has_a_comment_with_its_meaning() -> None:
    lines = Path(variables.__file__).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if re.match(r"[A-Z_]+ = ", line):
            assert lines[number - 1].startswith("# ")


def test_each_program_exists() -> None:
    for name in programs.__all__:
        assert Path(getattr(programs, name)).exists()
