"""The digest of a definition changes with its code, and with nothing else."""

from __future__ import annotations

import pytest

from nano_init.fingerprints.source_digest import ABSENT, digest_of_definition

SOURCE = '''
from package import global_state, other
import math

TABLE = (1, 2)
NOTED: int = 3

class Layer:
    """Some layer."""

    size: int = 1

    @property
    def width(self):
        return self.size

    def call(self, x, flag=False):
        """Return something.

Text at the margin.
        """
        # a comment
        if flag:
            x = x + 1
        return f"{x!r:>{self.size}} and {'y'}"

    class Inner:
        def __init__(self):
            pass

if math:
    def choose(): return 1
else:
    def choose(): return 2
'''


def digest(name, source=SOURCE):
    return digest_of_definition(source, name)


@pytest.mark.parametrize(
    "name",
    [
        *("global_state", "TABLE", "NOTED", "Layer", "Layer.size", "Layer.width", "Layer.call"),
        *("Layer.Inner.__init__", "choose"),
    ],
)
def test_every_kind_of_definition_is_found(name):
    assert digest(name) != ABSENT


@pytest.mark.parametrize("name", ["nothing", "Layer.nothing", "Layer.Inner.call", "package"])
def test_an_undefined_name_is_absent(name):
    assert digest(name) == ABSENT


def test_comments_docstrings_whitespace_and_line_breaks_do_not_count():
    other = """
class Layer:
    def call(self, x,
             flag = False):

        if flag :
            x = x+1   # another comment

        return f"{x!r:>{self.size}} and {'y'}"
"""
    assert digest("Layer.call", other) == digest("Layer.call")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x + 1", "x - 1"),
        ("flag=False", "flag=True"),
        ("and {'y'}", "or {'y'}"),
        ("!r:", "!s:"),
        ("        return f", "            return f"),
        ("    def call", "    @property\n    def call"),
    ],
)
def test_a_code_change_counts(old, new):
    assert old in SOURCE
    assert digest("Layer.call", SOURCE.replace(old, new)) != digest("Layer.call")


def test_a_change_elsewhere_in_the_file_does_not_count():
    other = SOURCE.replace("(1, 2)", "(1, 3)").replace("return self.size", "return 4")
    assert digest("Layer.call", other) == digest("Layer.call")
    assert digest("TABLE", other) != digest("TABLE")


def test_only_the_name_itself_counts_in_an_import():
    assert digest("global_state", SOURCE.replace(", other", ", another")) == digest("global_state")
    moved = SOURCE.replace("from package import", "from package.elsewhere import")
    assert digest("global_state", moved) != digest("global_state")


def test_both_branches_of_a_condition_count():
    assert digest("choose", SOURCE.replace("return 2", "return 3")) != digest("choose")


def test_a_string_in_an_expression_is_not_a_docstring():
    assert digest("f", 'def f():\n    "a".join(x)\n') != digest("f", 'def f():\n    "b".join(x)\n')


def test_the_digest_is_the_same_in_every_python_version():
    """The value comes from Python 3.11; Python 3.12 tokenizes f-strings differently."""
    assert digest("Layer.call") == "28a05a6f3b19672c"
