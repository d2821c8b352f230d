"""LD_PRELOAD: append a library once, and remove it without touching the user's libraries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init.errors import UsageError
from nano_init.plan.settings import Setting
from nano_init.shells.preload import append_library, list_libraries, remove_added
from nano_init.shells.transition import enter, leave, original

OURS = "/usr/lib/libjemalloc.so.2"

others = st.text("ab/:. ", max_size=12)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, OURS),
        ("", OURS),
        ("/a.so", f"/a.so:{OURS}"),
        ("/a.so /b.so", f"/a.so /b.so:{OURS}"),
        (OURS, OURS),
        (f"{OURS} /a.so", f"{OURS} /a.so"),
        (f"{OURS}.1", f"{OURS}.1:{OURS}"),
    ],
)
def test_a_library_is_appended_once(value: str | None, expected: str) -> None:
    assert expected == append_library(value, OURS)


@pytest.mark.parametrize("library", ["", "/a b/lib.so", "/a:b/lib.so"])
def test_a_path_that_the_list_cannot_contain_is_rejected(library: str) -> None:
    with pytest.raises(UsageError, match="LD_PRELOAD cannot contain"):
        append_library(None, library)


@given(st.none() | others)
def test_removal_restores_the_previous_value_byte_for_byte(before: str | None) -> None:
    after = append_library(before, OURS)

    assert remove_added(before, after, after) == before


@given(st.none() | others, others, others)
def test_libraries_that_the_user_added_later_are_kept(
    before: str | None, head: str, tail: str
) -> None:
    after = append_library(before, OURS)
    now = f"{head}:{after} {tail}"

    left = remove_added(before, after, now) or ""

    assert [x for x in list_libraries(now) if x != OURS] == list(list_libraries(left))


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (None, f"{OURS}:/mine.so", "/mine.so"),
        (None, f"/mine.so {OURS}", "/mine.so"),
        ("/a.so", f"/a.so:{OURS}:/mine.so", "/a.so:/mine.so"),
        (None, f"{OURS}:{OURS}", None),
        ("", OURS, ""),
        (None, f"{OURS}.1", f"{OURS}.1"),
        (OURS, f"{OURS}:/mine.so", f"{OURS}:/mine.so"),
    ],
)
def test_only_the_added_library_is_removed(
    before: str | None, now: str, expected: str | None
) -> None:
    assert expected == remove_added(before, append_library(before, OURS), now)


def test_leaving_keeps_a_library_that_the_user_preloaded_later() -> None:
    entered = enter({"LD_PRELOAD": "/a.so"}, [Setting("LD_PRELOAD", f"/a.so:{OURS}", "asked")])
    environ = {c.name: c.after for c in entered.assignments if c.after is not None}

    environ["LD_PRELOAD"] += " /mine.so"

    assert original(environ) == ({"LD_PRELOAD": "/a.so /mine.so"}, ())
    assert {c.name: c.after for c in leave(environ).assignments} == {
        "LD_PRELOAD": "/a.so /mine.so",
        "NANO_INIT_STATE": None,
    }


def test_a_preload_without_the_added_library_is_kept_with_a_note() -> None:
    entered = enter({}, [Setting("LD_PRELOAD", OURS, "asked")])
    environ = {c.name: c.after for c in entered.assignments if c.after is not None}

    environ["LD_PRELOAD"] = "/mine.so"

    reverted, notes = original(environ)
    assert reverted == {"LD_PRELOAD": "/mine.so"}
    assert len(notes) == 1
