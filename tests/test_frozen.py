"""`frozen` behaves like `dataclass(frozen=True)`."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from nano_init.frozen import frozen, replace


@frozen
class Ours:
    """Two fields, one with a default, and a property."""

    name: str
    value: int | None = None

    @property
    def shouted(self) -> str:
        return self.name.upper()


@dataclasses.dataclass(frozen=True)
class Plain:
    name: str
    value: int | None = None


def test_fields_are_set_by_position_by_name_or_by_default() -> None:
    assert Ours("a", 1) == Ours(name="a", value=1) == Ours("a", value=1)
    assert Ours("a").value is None
    assert Ours("a").shouted == "A"


def test_equality_hash_and_repr_match_a_dataclass() -> None:
    assert Ours("a") == Ours("a") != Ours("b")
    assert Ours("a") != Plain("a")
    assert hash(Ours("a", 2)) == hash(Plain("a", 2))
    assert repr(Ours("a")) == repr(Plain("a")).replace("Plain", "Ours")


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [((), {}), ((1, 2, 3), {}), (("a",), {"name": "b"}), (("a",), {"other": 1})],
)
def test_wrong_arguments_raise_type_error_as_in_a_dataclass(
    arguments: tuple[object, ...], keywords: dict[str, object]
) -> None:
    for cls in (Ours, Plain):
        with pytest.raises(TypeError):
            cls(*arguments, **keywords)


def test_replace_returns_a_copy_and_leaves_the_original_unchanged() -> None:
    made = Ours("a", 1)
    assert replace(made, value=2) == Ours("a", 2)
    assert made == Ours("a", 1)
    with pytest.raises(TypeError):
        replace(made, other=1)


def test_fields_cannot_be_changed_or_deleted() -> None:
    made = Ours("a")
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to 'name' of a Ours"):
        made.name = "b"
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete 'name' of a Ours"):
        del made.name
    assert made == Ours("a")


def test_a_default_before_a_required_field_is_rejected() -> None:
    with pytest.raises(TypeError, match="without a default"):

        @frozen
        class _Wrong:
            a: int = 1
            b: int


def test_dataclasses_copy_and_pickle_functions_work() -> None:
    made = Ours("a", 1)
    assert dataclasses.is_dataclass(Ours)
    assert [f.name for f in dataclasses.fields(Ours)] == ["name", "value"]
    assert dataclasses.replace(made, value=2) == Ours("a", 2)
    assert dataclasses.asdict(made) == {"name": "a", "value": 1}
    assert copy.deepcopy(made) == made
    assert pickle.loads(pickle.dumps(made)) == made


def test_matching_by_position_works() -> None:
    match Ours("a", 1):
        case Ours(name, value):
            assert (name, value) == ("a", 1)


def test_it_imports_neither_dataclasses_nor_inspect() -> None:
    code = "import sys, nano_init.frozen; print({'dataclasses', 'inspect'} & set(sys.modules))"
    shown = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).resolve().parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "set()\n"
