"""The variables that a preloaded allocator sets."""

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


def test_the_users_preloads_are_kept_and_come_first() -> None:
    shown = values("tcmalloc", TCMALLOC, {"LD_PRELOAD": "/lib/mine.so"})
    assert shown == {"LD_PRELOAD": f"/lib/mine.so:{TCMALLOC}"}


def test_a_library_that_is_already_preloaded_is_not_added_again() -> None:
    (setting,) = allocator_settings("tcmalloc", TCMALLOC, {"LD_PRELOAD": TCMALLOC})
    assert (setting.value, setting.status) == (TCMALLOC, "kept")


def test_jemalloc_returns_memory_to_the_system() -> None:
    configuration = values("auto", JEMALLOC, {})["MALLOC_CONF"]
    assert configuration is not None
    assert "decay_ms:-1" not in configuration


def test_a_missing_library_is_reported_with_the_package_to_install() -> None:
    with pytest.raises(UsageError, match="no usable jemalloc library found; install lib"):
        allocator_settings("jemalloc", None, {})


def test_an_unknown_allocator_is_rejected() -> None:
    with pytest.raises(UsageError, match="allocator 'mimalloc' is unknown; choose one of none"):
        allocator_settings("mimalloc", None, {})
