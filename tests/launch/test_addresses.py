"""Parsing and formatting of host addresses."""

from __future__ import annotations

import pytest

from nano_init.errors import UsageError
from nano_init.launch.addresses import (
    bare_address,
    is_loopback,
    join_port,
    parse_host,
    with_scope,
)


@pytest.mark.parametrize(
    ("host", "joined"),
    [("host0", "host0:7"), ("10.0.0.1", "10.0.0.1:7"), ("fe80::1%eth0", "[fe80::1%eth0]:7")],
)
def test_an_ipv6_address_gets_brackets_before_a_port(host, joined):
    assert join_port(host, 7) == joined


@pytest.mark.parametrize(
    ("text", "host"),
    [("::1", "::1"), ("[::1]", "::1"), ("fe80::1%eth0", "fe80::1%eth0"), ("h.b", "h.b")],
)
def test_a_host_may_be_given_with_or_without_brackets(text, host):
    assert parse_host(text, "--master-addr") == host


@pytest.mark.parametrize("text", ["h:29400", "[::1]:29400", "", "a b", "http://h", "::1::2", "u@h"])
def test_the_message_about_an_invalid_host_names_the_port_option(text):
    with pytest.raises(UsageError, match=r"--master-addr is .*--master-port"):
        parse_host(text, "--master-addr")


@pytest.mark.parametrize(
    ("address", "bare"),
    [
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("host0", "host0"),
    ],
)
def test_addresses_are_normalized(address, bare):
    assert bare_address(address) == bare


def test_only_a_link_local_address_gets_this_hosts_interface():
    assert with_scope("fe80::1", "eth0") == "fe80::1%eth0"
    assert with_scope("fe80::1", "") == "fe80::1"
    assert with_scope("fd00::1", "eth0") == "fd00::1"
    assert with_scope("10.0.0.1", "eth0") == "10.0.0.1"


@pytest.mark.parametrize(
    ("address", "is_own"),
    [
        ("127.1.2.3", True), ("::1", True), ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False), ("localhost", False),
    ],
)  # fmt: skip
def test_loopback_addresses_of_both_families_are_recognised(address, is_own):
    assert is_loopback(address) is is_own
