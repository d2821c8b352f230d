"""A ledger applies all replacements or none, and restores the exact originals."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from nano_init.errors import PatchError
from nano_init.keras_patch.ledger import Ledger, Replacement


class Base:
    def inherited(self):
        return "base"

    @staticmethod
    def static():
        return "static"


class Child(Base):
    __slots__ = ()


def test_restores_previous_attributes_and_removes_new_ones():
    target = SimpleNamespace(a=1)
    before = dict(vars(target))
    ledger = Ledger()
    ledger.apply([Replacement(target, "a", 2), Replacement(target, "b", 3, inherited=True)])
    assert vars(target) == {"a": 2, "b": 3}
    ledger.restore()
    assert vars(target) == before


def test_restores_the_descriptor_not_the_underlying_function():
    original = vars(Base)["static"]
    ledger = Ledger()
    ledger.apply([Replacement(Base, "static", staticmethod(lambda: "other"))])
    assert Base.static() == "other"
    ledger.restore()
    assert vars(Base)["static"] is original


def test_an_inherited_attribute_is_removed_again():
    ledger = Ledger()
    ledger.apply([Replacement(Child, "inherited", lambda self: "child", inherited=True)])
    assert Child().inherited() == "child"
    ledger.restore()
    assert "inherited" not in vars(Child)
    assert Child().inherited() == "base"


def test_changes_nothing_if_a_target_lacks_its_attribute():
    target = SimpleNamespace(a=1)
    ledger = Ledger()
    with pytest.raises(PatchError, match=r"SimpleNamespace\.b does not exist"):
        ledger.apply([Replacement(target, "a", 2), Replacement(target, "b", 3)])
    assert vars(target) == {"a": 1}
    assert len(ledger) == 0


def test_undoes_the_first_replacement_if_the_second_fails():
    target = SimpleNamespace(a=1)
    ledger = Ledger()
    with pytest.raises(PatchError, match=r"int\.real cannot be set"):
        ledger.apply([Replacement(target, "a", 2), Replacement(int, "real", 3)])
    assert vars(target) == {"a": 1}
    assert len(ledger) == 0


def test_replacing_an_attribute_twice_restores_the_first_original():
    target = SimpleNamespace(a=1)
    ledger = Ledger()
    ledger.apply([Replacement(target, "a", 2)])
    ledger.apply([Replacement(target, "a", 3)])
    ledger.restore()
    assert target.a == 1


@pytest.mark.parametrize(("written", "left"), [(None, 1), (5, 5)])
def test_a_yielding_replacement_keeps_a_later_value(written, left):
    target = SimpleNamespace(a=1)
    ledger = Ledger()
    ledger.apply([Replacement(target, "a", 2, is_yielding=True)])
    target.a = target.a if written is None else written
    ledger.restore()
    assert target.a == left
