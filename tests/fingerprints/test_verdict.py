"""A part is used where all its sources are those of one verified version; otherwise it says why."""

from __future__ import annotations

import pytest

from nano_init.fingerprints.known_sources import KnownSources
from nano_init.fingerprints.source_digest import ABSENT
from nano_init.fingerprints.verdict import (
    LATER,
    MISSING,
    REPLACED,
    UNVERIFIED,
    VERIFIED,
    FoundPackage,
    Verdict,
    judge,
)
from nano_init.protocol.patch_record import PATH, PatchRecord

ONE, TWO = "keras.src.a:one", "keras.src.a:two"
RECORD = PatchRecord("path", PATH, "summary", replaces=(ONE, TWO), keras=("3.3", "3.15"))
KNOWN = KnownSources(
    releases={"3.3": "3.3.3", "3.15": "3.15.1", "3.2": "3.2.1"},
    files={},
    callables={
        ONE: {"old": ("3.3",), "new": ("3.15",)},
        TWO: {ABSENT: ("3.3",), "same": ("3.15",)},
    },
)


def verdict(version: str, one: str, two: str, *replaced: str) -> Verdict:
    """Return the verdict on the record where its two callables have these digests."""
    found = FoundPackage(version, {ONE: one, TWO: two}, frozenset(replaced), KNOWN)
    return judge(RECORD, {"keras": found})


@pytest.mark.parametrize(
    ("version", "one", "two"),
    [("3.3.3", "old", ABSENT), ("3.15.1", "new", "same"), ("3.16.0.dev1", "new", "same")],
)
def test_the_sources_of_one_verified_version_are_verified(version: str, one: str, two: str) -> None:
    assert verdict(version, one, two) == Verdict(VERIFIED)


@pytest.mark.parametrize(
    ("version", "one", "two", "reason"),
    [
        ("3.3.3", "edited", ABSENT, "one has changed"),
        ("3.15.1", "edited", "same", "one has changed"),
        ("3.16.0.dev1", "old", "same", "one has changed"),
        ("3.9.0", "edited", "same", "one has changed"),
    ],
)
def test_only_what_differs_from_the_own_version_is_named(
    version: str, one: str, two: str, reason: str
) -> None:
    assert verdict(version, one, two) == Verdict(UNVERIFIED, reason)


def test_a_mix_of_verified_versions_is_none() -> None:
    assert verdict("3.15.1", "old", "same").state == UNVERIFIED


@pytest.mark.parametrize("two", ["same", ABSENT])
def test_a_part_of_later_versions_names_the_first_of_them(two: str) -> None:
    assert verdict("3.2.1", "other", two) == Verdict(LATER, "for Keras 3.3 and later")


def test_equal_sources_are_used_on_an_earlier_version_too() -> None:
    assert verdict("3.2.1", "old", ABSENT) == Verdict(VERIFIED)


def test_what_a_later_version_has_lost_is_missing() -> None:
    assert verdict("3.16.0.dev1", "new", ABSENT) == Verdict(MISSING, "two is missing")


def test_what_another_tool_has_replaced_is_named() -> None:
    assert verdict("3.15.1", "new", "same", ONE) == Verdict(
        REPLACED, "one is replaced by another tool"
    )
