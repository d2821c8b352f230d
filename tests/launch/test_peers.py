"""The launchers of other hosts, as one attempt sees them."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from nano_init.launch import peers as peers_module
from nano_init.launch.link import Link
from nano_init.launch.peers import Peers


@pytest.fixture
def other(monkeypatch):
    """Return another host's end of a connection, and this host's link to it."""
    monkeypatch.setattr(peers_module, "_SILENT", 0.8)
    monkeypatch.setattr(peers_module, "_BEAT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        end = socket.create_connection(server.getsockname())
        link = Link(server.accept()[0], "host 1 (10.0.0.2)")
    yield end, link
    end.close()
    link.close()


def test_a_host_that_misses_heartbeats_is_waited_for_until_it_is_lost(other):
    """TensorFlow may fail because of a cut link before the launcher calls the host lost."""
    _, link = other
    link.heard = time.monotonic() - 0.4
    peers = Peers([link])
    assert not peers.lost
    peers.settle()
    assert peers.lost == "host 1 (10.0.0.2) sent nothing for 0.8 s"


def test_a_host_that_is_heard_again_is_not_lost(other):
    end, link = other
    link.heard = time.monotonic() - 0.4
    peers = Peers([link])
    sender = threading.Timer(0.1, end.sendall, [b'{"event": "alive"}\n'])
    sender.start()
    peers.settle()
    sender.join()
    assert not peers.lost


def test_a_host_that_sends_its_heartbeats_is_not_waited_for(other, monkeypatch):
    _, link = other
    peers = Peers([link])
    monkeypatch.setattr(peers_module, "_ready", lambda links: pytest.fail("it waits"))
    peers.settle()
    assert not peers.lost
