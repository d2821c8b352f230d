"""Only the server that a port is held for can get it."""

from __future__ import annotations

import socket
import sys

import pytest

from nano_init.launch.ports import HeldPort

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="as Linux does it")


@pytest.fixture
def held():
    port = HeldPort()
    yield port
    port.close()


def test_a_server_with_so_reuseaddr_can_listen_on_a_held_port(held):
    with socket.create_server(("", held.number)) as server:
        with socket.create_connection(("127.0.0.1", held.number)) as client:
            client.sendall(b"x")
        assert server.getsockname()[1] == held.number


def test_ports_held_at_the_same_time_are_distinct(held):
    others = [HeldPort() for _ in range(50)]

    assert len({held.number, *(other.number for other in others)}) == 51
    for other in others:
        other.close()


def test_binding_to_port_0_never_gets_a_held_port(held):
    for _ in range(200):
        with socket.socket() as anyone:
            anyone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            anyone.bind(("", 0))
            assert anyone.getsockname()[1] != held.number
