"""A worker reads the membership that its launcher wrote, and rejects anything else."""

from __future__ import annotations

import pytest

from nano_init.errors import LaunchError
from nano_init.protocol.membership import Membership, format_membership, parse_membership


def test_a_membership_survives_a_round_trip():
    membership = Membership(3, 8, 12345, 7, 60, True, "/tmp/a b", 9)

    assert parse_membership(format_membership(membership)) == membership


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"index": 0}', '{"what": 1}'])
def test_a_damaged_membership_is_reported(text):
    with pytest.raises(LaunchError, match="NANO_INIT_WORKER is damaged"):
        parse_membership(text)
