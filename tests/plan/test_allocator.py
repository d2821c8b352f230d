"""What a preloaded allocator sets, and what it leaves alone."""

from __future__ import annotations

import pytest

from nano_init.errors import UsageError
from nano_init.plan.allocator import allocator_settings

JEMALLOC = "/usr/lib/libjemalloc.so.2"
TCMALLOC = "/usr/lib/libtcmalloc_minimal.so.4"


def values(choice: str, library: str | None, environ: dict[str, str]) -> dict[str, str | None]:
    return {s.name: s.value for s in allocator_settings(choice, library, environ)}


def test_none_sets_nothing() -> None:
    assert values("none", None, {}) == {}


def test_the_users_own_preloads_stay_and_stand_first() -> None:
    shown = values("tcmalloc", TCMALLOC, {"LD_PRELOAD": "/lib/mine.so"})
    assert shown == {"LD_PRELOAD": f"/lib/mine.so:{TCMALLOC}"}


def test_a_library_that_is_preloaded_already_is_not_doubled() -> None:
    (setting,) = allocator_settings("tcmalloc", TCMALLOC, {"LD_PRELOAD": TCMALLOC})
    assert (setting.value, setting.status) == (TCMALLOC, "kept")


def test_jemalloc_gives_memory_back() -> None:
    configuration = values("auto", JEMALLOC, {})["MALLOC_CONF"]
    assert configuration is not None
    assert "decay_ms:-1" not in configuration


def test_a_library_that_was_not_found_is_one_sentence_with_the_package() -> None:
    with pytest.raises(UsageError, match="no usable jemalloc library found; install lib"):
        allocator_settings("jemalloc", None, {})


def test_an_unknown_allocator_is_named() -> None:
    with pytest.raises(UsageError, match="allocator 'mimalloc' is unknown; choose one of none"):
        allocator_settings("mimalloc", None, {})
