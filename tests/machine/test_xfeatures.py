"""The kernel's answer about AMX is requested without side effects and stored as text."""

from __future__ import annotations

import errno
import os
import platform
import sys

import pytest

from nano_init.machine.xfeatures import ask_xfeatures, format_answer, parse_answer


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="the question is x86 Linux's"
)
def test_the_kernels_answer_is_a_mask_or_an_error_number():
    answer = format_answer(ask_xfeatures)

    # x87 and SSE states are always present; kernels before 5.16 do not support the query.
    assert answer.startswith("errno ") or parse_answer(answer) & 3 == 3


def test_answer_survives_a_round_trip():
    assert parse_answer(format_answer(lambda: 0x602E7)) == 0x602E7


def test_refusal_survives_a_round_trip():
    def refuse():
        raise OSError(errno.EPERM, "no")

    with pytest.raises(OSError, match=os.strerror(errno.EPERM)) as caught:
        parse_answer(format_answer(refuse))

    assert caught.value.errno == errno.EPERM


@pytest.mark.parametrize("text", ["", "errno", "errno x", "errno 99999999999", "zz", "errno -1"])
def test_a_damaged_answer_counts_as_a_refusal(text):
    with pytest.raises(OSError, match="is not a valid answer"):
        parse_answer(text)
