"""Types in strings are compiled once, and type variables are as ever."""

from __future__ import annotations

import sys
import typing
from pathlib import Path
from typing import Any

import pytest

from nano_init.keras_patch.faster.type_variables import TypeVariableFinder, compile_once

NAMES = ("compile", "_type_check")

# Not the name itself: a type checker would look for the types in its arguments.
make_variable = typing.TypeVar
make_optional = typing.Optional.__getitem__


def _made() -> list[Any]:
    return [
        make_variable("T", "bfloat16", "list[int]", int),
        make_variable("T", bound="bfloat16"),
        make_optional("float32"),
        typing.get_type_hints(_hinted),
        typing.cast("typing.Any", None),
    ]


def _hinted(x: int, y: list[int]) -> None:
    """Have annotations that `get_type_hints` evaluates."""


def _facts(made: list[Any]) -> list[Any]:
    first, bound, optional, hints, _ = made
    return [first.__constraints__, bound.__bound__, optional, hints, *map(repr, made)]


def test_type_variables_are_those_of_python() -> None:
    ordinary = _facts(_made())
    with compile_once():
        assert _facts(_made()) == ordinary
        assert _facts(_made()) == ordinary


def test_each_variable_has_its_own_references() -> None:
    with compile_once():
        one, other = (make_variable(name, "bfloat16", "half") for name in "AB")
    assert one.__constraints__[0] == other.__constraints__[0]
    assert one.__constraints__[0] is not other.__constraints__[0]


def test_errors_are_those_of_python() -> None:
    def error(*constraints: Any) -> str:
        with pytest.raises((SyntaxError, TypeError)) as caught:
            make_variable("T", *constraints)
        return f"{type(caught.value).__name__}: {caught.value}"

    wrong: tuple[Any, ...] = (("no type(", "half"), (int, (1, 2)), (typing.Generic, int))
    ordinary = [error(*each) for each in wrong]
    with compile_once():
        assert [error(*each) for each in wrong] == ordinary


def test_typing_is_restored_also_after_an_error() -> None:
    before = {name: vars(typing).get(name) for name in NAMES}
    with pytest.raises(ZeroDivisionError), compile_once():
        assert 1 / (vars(typing)["compile"] is before["compile"])
    assert {name: vars(typing).get(name) for name in NAMES} == before


def test_what_something_else_puts_there_stays() -> None:
    mine = vars(typing)["_type_check"]

    def other(*args: Any, **kwargs: Any) -> Any:
        return mine(*args, **kwargs)

    try:
        with compile_once():
            vars(typing)["_type_check"] = other
        assert vars(typing)["_type_check"] is other
    finally:
        vars(typing)["_type_check"] = mine
    assert "compile" not in vars(typing)


def _imported(
    name: str, code: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """Import a module of that name and code, with the finder in front; return its names."""
    from importlib import machinery, util

    path = folder / "module.py"
    path.write_text(code)

    class Found:
        @staticmethod
        def find_spec(*_: object) -> machinery.ModuleSpec | None:
            return util.spec_from_file_location(name, path)

    finders: list[Any] = [Found]
    finders.insert(0, TypeVariableFinder(finders))
    found = [finder.find_spec(name) for finder in finders]
    spec = found[0] or found[1]
    module = util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return vars(module)


@pytest.mark.parametrize(
    ("name", "is_once"),
    [
        ("tensorflow", True),
        ("tensorflow.python.ops.gen_training_ops", True),
        ("tensorflow.python.ops.math_ops", False),
        ("tensorflow.compiler.tf2xla.ops.gen_xla_ops", True),
        ("program.gen_ops", False),
    ],
)
def test_modules_of_ops_compile_once_also_after_the_import_of_tensorflow(
    name: str, is_once: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import typing\nwas_once = 'compile' in vars(typing)\n"
    assert _imported(name, code, tmp_path, monkeypatch)["was_once"] is is_once
    assert "compile" not in vars(typing)


def test_a_module_of_ops_is_found_as_ever_while_tensorflow_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with compile_once():
        before = vars(typing)["compile"]
        code = "import typing\nseen = vars(typing)['compile']\n"
        name = "tensorflow.python.ops.gen_array_ops"
        assert _imported(name, code, tmp_path, monkeypatch)["seen"] is before
