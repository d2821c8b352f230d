"""Whatever another host sends causes at most a one-sentence error: no traceback, no hang."""

from __future__ import annotations

import contextlib
import json
import socket
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nano_init
from nano_init.errors import LaunchError
from nano_init.frozen import replace
from nano_init.launch.job_secret import JobSecret
from nano_init.launch.link import Link
from nano_init.launch.listening import listen
from nano_init.launch.peers import Peers
from nano_init.launch.reception import Reception
from nano_init.launch.rendezvous import Host, Meeting, _read_hello, _talk
from nano_init.launch.running_worker import AttemptOutcome

SECRET = JobSecret("secret", b"0123456789abcdef", "test")
NAMES = st.sampled_from([
    "nano-run", "version", "secret", "nonce", "credential", "rank", "ports", "facts", "restarts",
    "error", "addresses", "first", "seed", "event", "number", "joined", "missing", "status",
    "sentence", "traceback", "can_restart",
    "ring", "ring_port",
])  # fmt: skip
EVENTS = ("alive", "done", "go", "signal", "joined", "failing", "report", "verdict", "welcome")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from((*EVENTS, 2, 1 << 70, [["h", 1], ["h", 2]])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
OPENING = {"nano-run": 3, "version": nano_init.__version__, "secret": "", "nonce": "ab"}
MESSAGES = (
    st.dictionaries(NAMES, VALUES, max_size=6)
    | st.builds(lambda more: {**OPENING, **more}, st.dictionaries(NAMES, VALUES, max_size=2))
    | st.builds(lambda event, more: {**more, "event": event}, st.sampled_from(EVENTS),
                st.dictionaries(NAMES, VALUES, max_size=3))
)  # fmt: skip
LINES = (
    MESSAGES.map(lambda message: json.dumps(message).encode() + b"\n")
    | st.binary(max_size=40)
    | st.sampled_from([b"\n", b"[" * 5000 + b"\n", b"1" * 5000 + b"\n", b'"\\ud800"\n', b"NaN\n"])
)
TALK = st.lists(LINES, max_size=5).map(b"".join)
HOST = Host(
    rank=1, count=2, master="127.0.0.1", port=1, ports=(1,), facts={}, seed=0, restarts=0,
    sums_here=False, secret=JobSecret(), say=lambda sentence: None,
)  # fmt: skip
FUZZ = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as opened:
        yield opened


def pair(server):
    """Return a stranger's socket, and a link to it."""
    stranger = socket.create_connection(server.getsockname())
    return stranger, Link(server.accept()[0], "host 0 at 127.0.0.1:1")


@FUZZ
@given(talk=TALK, has_secret=st.booleans())
def test_a_joining_host_gets_a_meeting_or_a_one_sentence_error(server, talk, has_secret):
    stranger, link = pair(server)
    stranger.sendall(talk)
    stranger.shutdown(socket.SHUT_WR)
    host = replace(HOST, secret=SECRET if has_secret else JobSecret())
    with stranger, contextlib.closing(link):
        sentence, meeting = "", None
        try:
            meeting = _talk(host, link, 1)
        except TimeoutError:
            pytest.fail("it waits on a closed connection")
        except LaunchError as error:
            sentence = str(error)
        assert "\n" not in sentence
        assert meeting is None or (isinstance(meeting, Meeting) and not has_secret)


@pytest.fixture
def receptions():
    """Receptions of host 0 without and with a secret, each with its port."""
    opened = []
    for secret in (JobSecret(), SECRET):
        sockets, _ = listen("127.0.0.1", 0)
        reception = Reception(sockets, secret, lambda sentence: None)
        opened.append((reception, sockets[0].getsockname()[1]))
    yield opened
    for reception, _ in opened:
        reception.__exit__()


@FUZZ
@given(talk=TALK, has_secret=st.booleans())
def test_host_0_disconnects_a_stranger_or_reads_its_hello(receptions, talk, has_secret):
    reception, port = receptions[has_secret]
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(talk)
        stranger.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + 5
        arrivals = []
        # Wait until it has connected, and then until it is disconnected or admitted.
        came = False
        while not arrivals and not (came and not reception._visitors):
            assert time.monotonic() < deadline
            arrivals, _ = reception.wait(0.2)
            came = came or bool(reception._visitors) or bool(arrivals)
            came = came or _is_sent_away(stranger)
    assert not (arrivals and has_secret), "a host was admitted without a proof"
    for arrival in arrivals:
        hello = _read_hello(arrival.hello)
        assert hello is None or all("\n" not in text for text in hello.facts.values())
        reception.forget(arrival.link)


def _is_sent_away(stranger):
    stranger.setblocking(False)
    try:
        while stranger.recv(1 << 16):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@FUZZ
@given(talk=TALK, is_first=st.booleans())
def test_a_host_that_sends_garbage_counts_as_lost(server, talk, is_first):
    stranger, link = pair(server)
    stranger.sendall(talk)
    stranger.shutdown(socket.SHUT_WR)
    peers = Peers([link], is_first=is_first)
    deadline = time.monotonic() + 5
    while peers.links:
        assert time.monotonic() < deadline
        peers.hear(link)
    stranger.close()
    link.close()

    assert peers.lost
    assert "\n" not in peers.lost
    assert isinstance(peers.agree(AttemptOutcome(1, "own"), 0.0), AttemptOutcome)
    assert all(isinstance(name, str) for name in peers.missing)
