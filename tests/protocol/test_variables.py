"""Every variable of nano-init's own is named in one module, also those that are literals."""

from __future__ import annotations

import re
from pathlib import Path

import nano_init
from nano_init.protocol import programs, variables

PACKAGE = Path(nano_init.__file__).parent
NAMES = {getattr(variables, name) for name in variables.__all__}

# Read where nothing of the package may be imported.
LITERALS = ("bootstrap/sitecustomize.py", "instrumentation/isolation_main.py")


def test_what_may_import_nothing_has_the_same_names() -> None:
    for path in LITERALS:
        text = (PACKAGE / path).read_text(encoding="utf-8")
        found = set(re.findall(r'"(NANO_[A-Z_]+)"', text))
        assert found
        assert found <= NAMES


def test_no_other_module_spells_one_out_in_code() -> None:
    spelled = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if NAMES & set(re.findall(r'"(NANO_[A-Z_]+)"', path.read_text(encoding="utf-8")))
    }
    assert spelled == {*LITERALS, "protocol/variables.py"}


def test_each_has_a_meaning() -> None:
    lines = Path(variables.__file__).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if re.match(r"[A-Z_]+ = ", line):
            assert lines[number - 1].startswith("# ")


def test_each_program_is_there() -> None:
    for name in programs.__all__:
        assert Path(getattr(programs, name)).exists()
