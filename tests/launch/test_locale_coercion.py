"""The locale that Python adds to its own environment is not passed on (PEP 538)."""

from __future__ import annotations

from pathlib import Path

import pytest

from nano_init.launch.locale_coercion import without_locale_coercion


@pytest.fixture
def root(tmp_path: Path) -> str:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    return f"{tmp_path}/"


def start_with(root: str, environment: bytes) -> None:
    Path(root, "proc/self/environ").write_bytes(environment)


def test_a_locale_that_python_added_is_removed(root: str) -> None:
    start_with(root, b"A=1\0LANG=C\0")
    assert without_locale_coercion({"A": "1", "LC_CTYPE": "C.UTF-8"}, root) == {"A": "1"}


def test_a_locale_that_python_replaced_is_restored(root: str) -> None:
    start_with(root, b"LC_CTYPE=POSIX\0A=1")
    assert without_locale_coercion({"LC_CTYPE": "C.UTF-8"}, root) == {"LC_CTYPE": "POSIX"}


def test_the_users_locale_is_not_changed(root: str) -> None:
    start_with(root, b"LC_CTYPE=C.UTF-8\0")
    assert without_locale_coercion({"LC_CTYPE": "C.UTF-8"}, root) == {"LC_CTYPE": "C.UTF-8"}
    assert without_locale_coercion({"LC_CTYPE": "de_DE.UTF-8"}, root) == {"LC_CTYPE": "de_DE.UTF-8"}
    assert without_locale_coercion({}, root) == {}


def test_without_the_initial_environment_nothing_changes(root: str) -> None:
    assert without_locale_coercion({"LC_CTYPE": "UTF-8"}, root) == {"LC_CTYPE": "UTF-8"}
