"""Rendezvous of launchers, in threads of one process, over the loopback interface."""

from __future__ import annotations

import contextlib
import json
import resource
import select
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import nano_init
from nano_init.errors import HostLostError, LaunchError, UsageError
from nano_init.frozen import replace
from nano_init.launch import listening, rendezvous, ring_connection
from nano_init.launch.handshake import greet
from nano_init.launch.job_secret import JobSecret, connection_key, read_job_secret
from nano_init.launch.link import LONGEST_MESSAGE, Link
from nano_init.launch.listening import listen
from nano_init.launch.munge import has_munge
from nano_init.launch.rendezvous import Host, meet

SECRET = JobSecret("secret", b"0123456789abcdef", "test")
NONE = JobSecret()
OTHER = JobSecret("secret", b"fedcba9876543210", "test")


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def lines():
    return []


@pytest.fixture
def host(port, lines):
    """Return a function that makes a host."""

    def make(rank, master="127.0.0.1", secret=NONE, count=2, **changes):
        made = Host(
            rank=rank, count=count, master=master, port=port, ports=(1000 + rank,),
            facts={"the script": "s.py"}, seed=5 + rank, restarts=0, sums_here=False,
            secret=secret, say=lines.append,
        )  # fmt: skip
        return replace(made, **changes)

    return make


@pytest.fixture
def pool():
    with ThreadPoolExecutor(20) as executor:
        yield executor


@pytest.fixture
def many_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("a process may not have 4,096 descriptors here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def close(*meetings):
    for meeting in meetings:
        for opened in (*meeting.links, *meeting.ring):
            opened.close()


def connect(port, host="127.0.0.1"):
    for _ in range(400):
        try:
            return socket.create_connection((host, port))
        except OSError:  # noqa: PERF203 - host 0 does not listen yet
            time.sleep(0.02)
    raise AssertionError("nothing listens on the port")


def has_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def is_closed(connection, seconds=30):
    """Return True once the other end has closed a connection; discard what it sent before."""
    connection.settimeout(seconds)
    with contextlib.suppress(ConnectionError):
        while connection.recv(1 << 16):
            pass
    return True


@pytest.mark.parametrize("master", ["127.0.0.1", "::1", "localhost"])
@pytest.mark.parametrize("secret", [JobSecret(), SECRET])
def test_hosts_meet_at_a_name_or_an_address_of_either_family(host, pool, master, secret):
    if master == "::1" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    joining = pool.submit(meet, host(1, master, secret, restarts=3), 20)
    first = meet(host(0, master, secret), 20)
    second = joining.result()
    close(first, second)

    expected = {"::1": ("[::1]:1000", "[::1]:1001")}.get(master)
    assert first.addresses == second.addresses
    assert expected in (None, first.addresses)
    assert (first.first, second.first) == (0, 1)
    assert {first.seed, second.seed} == {5}, "host 0 decides"
    assert {first.restarts, second.restarts} == {3}, "a host that was started again gets the count"


@pytest.mark.parametrize("can", [(True, True), (True, False), (False, True)])
def test_each_host_sums_locally_first_if_all_hosts_can(host, pool, can):
    joining = pool.submit(meet, host(1, sums_here=can[1]), 20)
    first = meet(host(0, sums_here=can[0]), 20)
    close(first, joining.result())
    assert {first.sums_on_hosts, joining.result().sums_on_hosts} == {all(can)}


@pytest.mark.parametrize(("rank", "awaited"), [(0, "all other hosts"), (1, "host 0 at 127.0.0.1:")])
def test_a_long_wait_is_explained_once(host, lines, monkeypatch, rank, awaited):
    monkeypatch.setattr(rendezvous, "_SILENT_SECONDS", 0.2)
    with pytest.raises(LaunchError):
        meet(host(rank, secret=SECRET), 1)
    (line,) = lines
    assert line.startswith(f"waiting for {awaited}")
    assert line.endswith("at most 1 s (--start-timeout)")


@pytest.mark.parametrize("secret", [NONE, SECRET])
@pytest.mark.parametrize("master", ["127.0.0.1", "::1"])
def test_each_host_of_a_ring_is_connected_to_the_next_host(host, pool, master, secret):
    if master == "::1" and not has_ipv6():
        pytest.skip("this machine has no IPv6")

    def make(rank):
        return host(rank, master, secret, count=3, sums_here=True)

    meetings = list(pool.map(lambda rank: meet(make(rank), 20), range(3)))
    for rank, meeting in enumerate(meetings):
        meeting.ring[1].sendall(b"from %d" % rank)
    heard = [meeting.ring[0].recv(99) for meeting in meetings]
    close(*meetings)

    assert heard == [b"from 2", b"from 0", b"from 1"]


def test_a_stranger_does_not_take_a_place_in_the_ring(host, pool, lines, monkeypatch, await_true):
    """Without the secret it is refused; with it, it must come from the host before this one."""
    listeners = {}
    may_connect = [threading.Event() for _ in range(2)]

    def connect_late(place, listener, following):
        listeners[place.rank] = listener
        assert may_connect[place.rank].wait(20)
        return connect_ring(place, listener, following)

    connect_ring = ring_connection.connect_ring
    monkeypatch.setattr(rendezvous, "connect_ring", connect_late)
    joining = [
        pool.submit(meet, host(rank, secret=SECRET, sums_here=True), 20) for rank in range(2)
    ]
    await_true(lambda: len(listeners) == 2)
    strangers = [connect(listeners[rank].getsockname()[1]) for rank in range(2)]
    for stranger in strangers:
        stranger.sendall(opening("ab" * 32) + b"believe me\n")
    again = Link(connect(listeners[0].getsockname()[1]), "host 0")
    may_connect[0].set()  # host 1 is not there yet: host 0 is sure to hear the others first
    assert greet(again, SECRET, 20)
    again.send(ring=5, **{"from": 2, "to": 0})
    assert again.wait(20) is None
    again.close()
    may_connect[1].set()
    meetings = [each.result() for each in joining]
    for stranger in strangers:
        assert is_closed(stranger)
        stranger.close()

    meetings[1].ring[1].sendall(b"genuine")
    assert meetings[0].ring[0].recv(99) == b"genuine"
    close(*meetings)
    assert [line[:53] for line in lines] == [
        "a host at 127.0.0.1 does not know the job's secret: g"
    ] * 2


def test_an_unreachable_neighbour_is_reported(host, pool, monkeypatch):
    monkeypatch.setattr(ring_connection, "_SECONDS", 1.0)
    connect_ring = ring_connection.connect_ring

    def connect_elsewhere(place, listener, following):
        where = ("127.0.0.1", 9) if place.rank else following
        return connect_ring(place, listener, where)

    monkeypatch.setattr(rendezvous, "connect_ring", connect_elsewhere)
    joining = pool.submit(meet, host(1, sums_here=True), 20)
    with pytest.raises(HostLostError, match=r"host 1 has not connected to host 0 at 127\.0\.0\.1:"):
        meet(host(0, sums_here=True), 20)
    with pytest.raises(HostLostError, match=r"host 0 at 127\.0\.0\.1:9 cannot be reached"):
        joining.result()


def test_a_thousand_silent_slow_or_invalid_visitors_do_not_delay_the_job(
    host, pool, port, many_descriptors
):
    """Each visitor has ten seconds to identify itself; the hosts have eight to connect."""
    gathering = pool.submit(meet, host(0), 8)
    visitors = [connect(port)]
    for number in range(1000):
        visitor = connect(port)
        visitor.setblocking(False)
        with contextlib.suppress(OSError):  # early visitors are disconnected to admit later ones
            visitor.send((b"", b"{", b"GET / HTTP/1.0\r\n\r\n", b"\0" * 4096)[number % 4])
        visitors.append(visitor)
    joined = meet(host(1), 8)

    assert gathering.result().addresses == joined.addresses
    close(gathering.result(), joined)
    for visitor in visitors:
        visitor.close()


def test_a_visitor_that_sends_endlessly_is_disconnected(host, pool, port):
    gathering = pool.submit(meet, host(0), 20)
    with connect(port) as visitor:
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 1 << 30:
                sent += visitor.send(b"x" * (1 << 20))
    joined = meet(host(1), 20)
    close(gathering.result(), joined)
    assert sent < 1 << 28


def test_strangers_are_refused_and_reported_and_the_job_continues(host, pool, port, lines):
    gathering = pool.submit(meet, host(0, secret=SECRET), 20)
    with pytest.raises(LaunchError, match=r"host 0 at 127\.0\.0\.1:\d+ has another job secret"):
        meet(host(1, secret=OTHER), 20)
    with pytest.raises(LaunchError, match="has a job secret from its user, and this host has no"):
        meet(host(1), 20)
    with connect(port) as stranger:  # as nano-run did before it had job secrets
        hello = {"rank": 1, "ports": [1], "facts": {"the script": "another"}}
        stranger.sendall(json.dumps(hello).encode() + b"\n")
        assert is_closed(stranger)
    joined = meet(host(1, secret=SECRET), 20)

    assert gathering.result().addresses == joined.addresses
    close(gathering.result(), joined)
    assert lines[0].startswith("a host at 127.0.0.1 does not know the job's secret")
    assert lines[1].startswith("a host at 127.0.0.1 has no job secret, and this host has")
    assert lines[2].startswith("the version of nano-init differs")


def test_a_replayed_message_is_refused(host, pool, port, lines):
    """A stranger repeats the messages of a recorded connection."""
    gathering = pool.submit(meet, host(0, secret=SECRET, count=3), 3)
    said = []
    with connect(port) as genuine:
        genuine.sendall(opening("ab" * 32))
        answer = json.loads(read_line(genuine))
        link = Link(genuine.dup(), "host 0")
        key = connection_key(SECRET.key, "ab" * 32, answer["nonce"])
        link.protect(key, b"another host", b"host 0")
        link.send = keep(said, link)
        link.send(rank=1, ports=[7], facts={"the script": "s.py", "--nnodes": "3"}, restarts=0,
                  ring_port=0)  # fmt: skip
        with connect(port) as stranger:
            stranger.sendall(opening("ab" * 32))
            read_line(stranger)
            stranger.sendall(said[0])
            assert is_closed(stranger)
        with pytest.raises(LaunchError, match="host 2 of 3 has not connected"):
            gathering.result()
        link.close()
    assert "does not know the job's secret" in lines[0]


def opening(nonce, secret="secret"):
    message = {"nano-run": 3, "version": nano_init.__version__, "secret": secret, "nonce": nonce}
    return json.dumps(message).encode() + b"\n"


def read_line(connection):
    line = b""
    while not line.endswith(b"\n"):
        line += connection.recv(1)
    return line


def keep(said, link):
    """Return a `send` that also records the bytes."""
    send = type(link).send

    def send_and_keep(**message):
        text = json.dumps(message).encode()
        count = link._counts[0]
        said.append(link._prove(0, text) + b" " + text + b"\n")
        link._counts[0] = count
        return send(link, **message)

    return send_and_keep


def test_a_host_with_another_protocol_version_is_reported_on_both_sides(host, pool, port, lines):
    gathering = pool.submit(meet, host(0), 2)
    with connect(port) as other:
        message = {"nano-run": 9, "version": "9.9", "secret": "", "nonce": "n"}
        other.sendall(json.dumps(message).encode() + b"\n")
        assert json.loads(read_line(other))["version"] == nano_init.__version__
    with pytest.raises(LaunchError, match=r"has not connected .*the version of nano-init differs"):
        gathering.result()
    assert "9.9 on a host at 127.0.0.1" in lines[0]


def test_a_host_restarted_before_all_have_connected_takes_its_old_place(host, pool, port):
    gathering = pool.submit(meet, host(0, count=3), 20)
    link = Link(connect(port), "host 0")
    link._socket.sendall(opening("ab", ""))
    assert link.wait(20)["secret"] == ""
    facts = {"the script": "s.py", "--nnodes": "3"}
    link.send(rank=1, ports=[7], facts=facts, restarts=0, ring_port=0)
    link.close()
    others = [pool.submit(meet, host(rank, count=3), 20) for rank in (1, 2)]

    meetings = [gathering.result(), *(other.result() for other in others)]
    assert {meeting.addresses for meeting in meetings} == {
        ("127.0.0.1:1000", "127.0.0.1:1001", "127.0.0.1:1002")
    }
    close(*meetings)


def test_host_0_listens_only_on_the_master_address(port):
    sockets, reason = listen("127.0.0.1", port)
    with sockets[0], pytest.raises(ConnectionRefusedError):
        connect_once("127.0.0.2", port)
    assert reason == ""


def connect_once(host, port):
    return socket.create_connection((host, port))


@pytest.mark.parametrize(
    ("addresses", "sentence"),
    [
        (["127.0.1.1"], "'h' is a loopback address of this host"),
        (["203.0.113.9"], "'h' is not an address of this host"),
        ([], "'h' cannot be resolved on this host"),
    ],
)
def test_host_0_listens_on_all_addresses_if_it_cannot_bind_the_master_address(
    monkeypatch, port, addresses, sentence
):
    """As with Debian's /etc/hosts, with NAT, and with a name that only other hosts resolve."""
    monkeypatch.setattr(listening.socket, "getaddrinfo", answering(addresses))
    sockets, reason = listen("h", port)
    assert reason.startswith(sentence)
    monkeypatch.undo()
    connect_once("127.0.0.2", port).close()
    for opened in sockets:
        opened.close()


def answering(addresses):
    def getaddrinfo(name, port, *_, **__):
        if not addresses:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses]

    return getaddrinfo


def test_all_addresses_of_the_masters_name_are_tried(monkeypatch, host, pool):
    monkeypatch.setattr(socket, "getaddrinfo", answering(["127.0.0.9", "127.0.0.1"]))
    joining = pool.submit(meet, host(1, "several"), 20)
    first = meet(host(0, "several"), 20)
    assert joining.result().addresses == first.addresses
    close(first, joining.result())


def test_an_unresolvable_master_name_is_reported(host):
    with pytest.raises(LaunchError, match=r"host 0 at no\.invalid:\d+ .* cannot be resolved"):
        meet(host(1, "no.invalid"), 0.5)


def test_a_master_that_sends_endlessly_is_reported(host, port):
    with socket.create_server(("127.0.0.1", port)) as server:

        def flood():
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                for _ in range(1 << 10):
                    connection.sendall(b"x" * (1 << 20))

        thread = threading.Thread(target=flood)
        thread.start()
        with pytest.raises(LaunchError, match=r"127\.0\.0\.1:\d+"):
            meet(host(1), 2)
        server.close()
        thread.join()


def test_a_peer_that_stops_reading_does_not_block_and_is_dropped():
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = socket.create_connection(server.getsockname())
        link = Link(server.accept()[0], "host 1")
    with silent:
        for _ in range(200):
            if not link.send(text="x" * (1 << 18)):
                break
        else:
            pytest.fail("more than 50 MB are buffered for a peer that does not read")
        assert len(link._unsent) < 2 * LONGEST_MESSAGE
        link.leave()


def test_a_message_is_reassembled_from_fragments():
    with socket.create_server(("127.0.0.1", 0)) as server:
        other = socket.create_connection(server.getsockname())
        link = Link(server.accept()[0], "host 1")
    with other:
        for byte in b'{"a": 1}\n{"b"':
            other.sendall(bytes([byte]))
        assert link.wait(20) == {"a": 1}
        other.sendall(b": 2}\n")
        assert link.wait(20) == {"b": 2}
    assert link.wait(20) is None
    link.close()


@pytest.mark.skipif(not has_munge({"PATH": "/usr/bin"}), reason="munged does not run here")
def test_host_0_sends_the_secret_in_a_munge_credential(host, pool, lines):
    ours = JobSecret("munge", b"0123456789abcdef", "MUNGE")
    gathering = pool.submit(meet, host(0, secret=ours, count=3), 20)
    with pytest.raises(LaunchError, match="has its job secret from MUNGE, and this host has no"):
        meet(host(1, count=3), 20)
    others = [
        pool.submit(meet, host(rank, secret=JobSecret("munge"), count=3), 20) for rank in (1, 2)
    ]
    meetings = [gathering.result(), *(other.result() for other in others)]
    assert len({meeting.addresses for meeting in meetings}) == 1
    close(*meetings)


def test_the_secret_is_read_from_a_file_or_else_from_a_variable(tmp_path):
    file = tmp_path / "secret"
    file.write_bytes(b"  0123456789abcdef\n")
    file.chmod(0o600)
    variable = {"NANO_RUN_JOB_SECRET": "fedcba9876543210"}
    assert read_job_secret(str(file), variable)[0].key == b"0123456789abcdef"
    assert read_job_secret("", variable)[0].key == b"fedcba9876543210"
    assert read_job_secret("", {})[0].kind == ""
    file.chmod(0o644)
    assert "chmod 600" in read_job_secret(str(file), {})[1]


@pytest.mark.parametrize("content", [None, b"", b"short", b"x" * 5000])
def test_a_secret_file_that_is_missing_or_has_an_invalid_length_is_rejected(tmp_path, content):
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=r"--job-secret-file '.*secret' (holds|cannot be read)"):
        read_job_secret(str(file), {})


def test_waiting_works_for_descriptors_too_large_for_select(many_descriptors):
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        while stack.enter_context(socket.socket()).fileno() < 1100:
            pass
        other = stack.enter_context(socket.create_connection(server.getsockname()))
        link = Link(server.accept()[0], "host 1")
        other.sendall(b'{"a": 1}\n')
        with pytest.raises(ValueError, match="filedescriptor out of range"):
            select.select([link], [], [], 0)
        assert link.wait(20) == {"a": 1}
        link.close()
