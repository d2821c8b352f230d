"""`scripts/check-style` bans phrases that read as translated, in prose but not in code."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


@pytest.fixture(scope="module")
def house_style():
    sys.path.insert(0, str(SCRIPTS / "documentation"))
    yield importlib.import_module("house_style")
    sys.path.remove(str(SCRIPTS / "documentation"))


@pytest.fixture
def banned(house_style):
    return house_style.read_banned((SCRIPTS / "banned_phrases.txt").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "text", ["the dearest op", "how to Mend it", "12 ms a step", "is told so", "held against it"]
)
def test_a_banned_phrase_is_reported_with_its_line_and_a_replacement(
    house_style, banned, text
) -> None:
    ((number, phrase, better),) = house_style.find_banned(f"fine\n{text}\n", banned)
    assert number == 2
    assert phrase.lower() in text.lower()
    assert better


@pytest.mark.parametrize("text", ["amended", "endear", "besides", "untold", "manew"])
def test_only_whole_words_match(house_style, banned, text) -> None:
    assert house_style.find_banned(text, banned) == []


def test_only_comments_and_strings_of_code_are_checked(house_style, banned) -> None:
    code = 'theirs = 1  # fine\nx = f"{theirs} anew"\n"""How to\nmend it."""\n'
    found = house_style.find_banned(house_style.prose_of(code), banned)
    assert [(number, phrase) for number, phrase, _ in found if phrase != "theirs"] == [
        (2, "anew"),
        (4, "mend"),
    ]
    assert (1, "theirs") not in {(number, phrase) for number, phrase, _ in found}
