"""An attribute is read from its owner alone, without its descriptor and without other names."""

from __future__ import annotations

from types import ModuleType

import pytest

from nano_init.keras_patch.own_attributes import own_attribute


class _OnUse(ModuleType):
    """A module that makes a name when it is read, and must not be read as a whole."""

    def __getattr__(self, name: str) -> str:
        if name != "late":
            raise AttributeError(name)
        self.late = "made"
        return self.late

    @property
    def __dict__(self):
        raise AssertionError("all names are read")


@pytest.mark.parametrize(("name", "expected"), [("late", "made"), ("missing", None)])
def test_a_module_that_imports_names_on_use_is_not_read_as_a_whole(name, expected):
    assert own_attribute(_OnUse("example"), name, None) == expected


def test_an_inherited_attribute_is_not_the_classs_own():
    class Base:
        @staticmethod
        def call() -> None: ...

    class Child(Base): ...

    assert isinstance(own_attribute(Base, "call", None), staticmethod)
    assert own_attribute(Child, "call", None) is None


@pytest.mark.parametrize("owner", [3, object()])
def test_an_object_without_a_namespace_has_no_attribute(owner):
    assert own_attribute(owner, "real", "default") == "default"
