"""CPU lists and masks are parsed as Linux writes them, and formatted the same way."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init.errors import UsageError
from nano_init.machine.cpulist import (
    format_cpu_list,
    format_cpu_mask,
    parse_cpu_list,
    parse_cpu_mask,
)

CPU_SETS = st.sets(st.integers(0, 8191), max_size=200)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0", (0,)),
        ("0-3,8", (0, 1, 2, 3, 8)),
        ("8,0-3\n", (0, 1, 2, 3, 8)),
        ("0-62:2", tuple(range(0, 63, 2))),
        ("0-2, 4", (0, 1, 2, 4)),
        ("1,1-2", (1, 2)),
        ("", ()),
        ("\n", ()),
        (" (null)\n", ()),
        ("0-1\0", (0, 1)),
        ("0-1,", (0, 1)),
    ],
)
def test_list_is_parsed_in_every_spelling(text, cpus):
    assert parse_cpu_list(text) == cpus


@pytest.mark.parametrize(
    "text", ["a", "-1", "3-1", "0-", "0-4:0", "0:2:2x", "1;2", "²", "0-99999999", "9" * 5000]
)
def test_damaged_list_is_rejected_in_one_sentence_that_quotes_it(text):
    with pytest.raises(UsageError, match="processor") as caught:
        parse_cpu_list(text)

    assert text[:40] in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("3", (0, 1)),
        ("00000000,00000101", (0, 8)),
        ("1,00000000", (32,)),
        ("00000001,00000000,00000000", (64,)),
        ("fffff", tuple(range(20))),
        ("0x5", (0, 2)),
        ("", ()),
        ("(null)", ()),
        ("ffffffffff", tuple(range(40))),
    ],
)
def test_mask_is_parsed_in_groups_of_32_bits(text, cpus):
    assert parse_cpu_mask(text) == cpus


@pytest.mark.parametrize("text", ["xyz", "1,,2", "1,123456789", "-1", "f" * 20000])
def test_damaged_mask_is_rejected(text):
    with pytest.raises(UsageError):
        parse_cpu_mask(text)


@given(CPU_SETS)
def test_list_survives_a_round_trip(cpus):
    assert parse_cpu_list(format_cpu_list(cpus)) == tuple(sorted(cpus))


@given(CPU_SETS)
def test_mask_survives_a_round_trip(cpus):
    assert parse_cpu_mask(format_cpu_mask(cpus)) == tuple(sorted(cpus))


@pytest.mark.parametrize("parse", [parse_cpu_list, parse_cpu_mask])
@given(text=st.one_of(st.text(max_size=60), st.text("0123456789abf,-:() \n\0", max_size=60)))
def test_any_text_gives_processors_or_a_usage_error(parse, text):
    with contextlib.suppress(UsageError):
        assert all(0 <= cpu < 65536 for cpu in parse(text))


def test_list_is_written_with_ranges():
    assert format_cpu_list([9, 0, 1, 2, 7, 8]) == "0-2,7-9"
    assert format_cpu_list([]) == ""
