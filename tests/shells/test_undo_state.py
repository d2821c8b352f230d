"""The undo state: all changes survive a round trip, and any other text is rejected."""

from __future__ import annotations

import os
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init.errors import StateError
from nano_init.shells.change import Change
from nano_init.shells.undo_state import format_state, parse_state

names = st.sampled_from(
    ["OMP_NUM_THREADS", "KMP_AFFINITY", "KMP_BLOCKTIME", "TF_A", "LD_PRELOAD", "MALLOC_CONF"]
)
values = st.none() | st.binary().filter(lambda b: 0 not in b).map(os.fsdecode)
changes = st.lists(
    st.builds(Change, names, values, values), unique_by=lambda change: change.name
).map(tuple)


@given(changes)
def test_every_change_survives_a_round_trip(changed: tuple[Change, ...]) -> None:
    assert changed == parse_state(format_state(changed))


@given(changes)
def test_the_text_has_no_special_characters_of_a_shell(
    changed: tuple[Change, ...],
) -> None:
    allowed = set(string.ascii_letters + string.digits + "_./,=:+-%")

    assert set(format_state(changed)) <= allowed


@given(st.text())
def test_any_text_is_parsed_or_rejected_in_one_sentence(text: str) -> None:
    try:
        said = format_state(parse_state(text))
    except StateError as error:
        said = str(error)

    assert said == text or (said.startswith("NANO_INIT_STATE is damaged") and "\n" not in said)


@given(changes, st.data())
def test_a_state_with_a_damaged_character_is_never_misread(
    changed: tuple[Change, ...], data: st.DataObject
) -> None:
    """Text parses only if formatting gives it back: each state has exactly one spelling."""
    text = format_state(changed)
    position = data.draw(st.integers(0, len(text)))
    hurt = text[:position] + data.draw(st.sampled_from(["", "%", "+", "x", "é", "\0"]))
    hurt += text[position + 1 :]
    try:
        read = parse_state(hurt)
    except StateError:
        return
    assert hurt == format_state(read)


def test_empty_and_unset_are_distinguished() -> None:
    text = format_state([Change("OMP_NUM_THREADS", "", "2"), Change("KMP_BLOCKTIME", None, "1")])

    assert text == "1,OMP_NUM_THREADS=+:+2,KMP_BLOCKTIME=-:+1"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "version is unknown"),
        ("2,OMP_NUM_THREADS=-:+2", "version is unknown"),
        ("$(touch /tmp/pwned)", "version is unknown"),
        ("1,OMP_NUM_THREADS", "no second value"),
        ("1,OMP_NUM_THREADS=-", "no second value"),
        ("1,OMP_NUM_THREADS=-:2", "malformed value"),
        ("1,OMP_NUM_THREADS=:+2", "malformed value"),
        ("1,OMP_NUM_THREADS=-:+%2", "malformed % code"),
        ("1,OMP_NUM_THREADS=-:+%0a", "malformed % code"),
        ("1,OMP_NUM_THREADS=-:+%00", "malformed % code"),
        ("1,OMP_NUM_THREADS=-:+%41", "not percent-encoded"),
        ("1,OMP_NUM_THREADS=-:+$(id)", "not percent-encoded"),
        ("1,OMP_NUM_THREADS=-:+2,OMP_NUM_THREADS=-:+3", "twice"),
        ("1,PATH=+/evil:+/bin", "'PATH', which nano-init never changes"),
        ("1,path=+/evil:-", "never changes"),
        ("1,SECONDS=+x[0]:-", "never changes"),
        ("1,OMP_$(id)=-:+2", "never changes"),
        ("1,NANO_INIT_STATE=-:+2", "never changes"),
        ("1,", "never changes"),
    ],
)
def test_a_damaged_or_hostile_state_is_rejected_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(StateError, match="NANO_INIT_STATE is damaged") as caught:
        parse_state(text)

    assert why in str(caught.value)
