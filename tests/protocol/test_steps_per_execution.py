"""The number of steps per execution is a whole number or 'auto'."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init.errors import UsageError
from nano_init.protocol.patch_options import parse_steps_per_execution


@given(st.integers(1, 1_000_000))
def test_a_number_is_read_from_a_command_line_and_from_a_script(number: int) -> None:
    assert parse_steps_per_execution(str(number)) == number
    assert parse_steps_per_execution(number) == number


@pytest.mark.parametrize("value", [None, "auto"])
def test_the_default_and_auto_are_returned_unchanged(value: str | None) -> None:
    assert parse_steps_per_execution(value) == value


@pytest.mark.parametrize("value", [0, -1, True, 2.5, "", "x", "2.5", "-1", "٣", "1000001", b"2"])
def test_any_other_value_is_rejected_in_one_sentence_that_quotes_it(value: object) -> None:
    with pytest.raises(UsageError, match=r"steps per execution is .*; give a ") as caught:
        parse_steps_per_execution(value)  # type: ignore[arg-type]
    assert repr(value) in str(caught.value)
