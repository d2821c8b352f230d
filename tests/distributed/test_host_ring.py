"""Sums over hosts; a thread stands for each host, and a pair of sockets for a connection."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

np = pytest.importorskip("numpy")
host_ring = pytest.importorskip("nano_init.distributed.host_ring")


@pytest.fixture
def new_ring():
    """Return a function that makes a ring of hosts."""
    with contextlib.ExitStack() as stack:

        def make(hosts):
            pairs = [socket.socketpair() for _ in range(hosts)]
            for end in (end for pair in pairs for end in pair):
                stack.enter_context(end)
            return [
                host_ring.HostRing(pairs[host - 1][1], pairs[host][0], host, hosts)
                for host in range(hosts)
            ]

        yield make


def act_on_all(ring, act):
    """Let all hosts act at the same time, and return the error of each, or None."""
    errors = [None] * len(ring)

    def run(host):
        try:
            act(host)
        except (host_ring.PeerLostError, host_ring.UnequalStepsError) as error:
            errors[host] = error

    threads = [threading.Thread(target=run, args=(host,)) for host in range(len(ring))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a host hangs"
    return errors


def add_up(end, vector, segment):
    bounds = [(i, min(i + segment, vector.size)) for i in range(0, vector.size, segment)]
    with end.open_sum(vector, bounds) as between:
        for number in range(len(bounds)):
            between.give(number)
        for _ in bounds:
            between.wait()


@pytest.mark.parametrize("hosts", [2, 3, 5])
@pytest.mark.parametrize(("length", "segment"), [(1, 9), (7, 9), (20_000, 999), (300_000, 70_000)])
def test_all_hosts_have_the_same_bits_of_the_sum(new_ring, hosts, length, segment):
    rng = np.random.default_rng(hosts)
    given = [rng.standard_normal(length).astype("float32") for _ in range(hosts)]
    sums = [vector.copy() for vector in given]
    ring = new_ring(hosts)

    for _ in range(2):
        for own, vector in zip(sums, given, strict=True):
            own[:] = vector
        assert act_on_all(ring, lambda h: add_up(ring[h], sums[h], segment)) == [None] * hosts

        for own in sums:
            np.testing.assert_array_equal(own, sums[0])
        np.testing.assert_allclose(sums[0], sum(a.astype("float64") for a in given), atol=1e-5)


def test_a_segment_may_become_ready_after_others_have_sent_theirs(new_ring):
    ring = new_ring(2)
    vectors = [np.full(40_000, float(host + 1)) for host in range(2)]
    other_is_done = threading.Event()

    def act(host):
        bounds = [(0, 20_000), (20_000, 40_000)]
        with ring[host].open_sum(vectors[host], bounds) as between:
            between.give(0)
            if host == 0:
                other_is_done.wait(20)
            between.give(1)
            between.wait()
            if host == 1:
                other_is_done.set()
            between.wait()

    assert act_on_all(ring, act) == [None, None]
    assert all((vector == 3.0).all() for vector in vectors)


@pytest.mark.parametrize("length", [10, 100_000])
def test_a_host_that_ends_is_named(monkeypatch, new_ring, length):
    monkeypatch.setattr(host_ring, "_GRACE_SECONDS", 0.0)
    ring = new_ring(3)

    def act(host):
        if host == 1:
            ring[1]._incoming.close()
            ring[1]._outgoing.close()
        else:
            add_up(ring[host], np.ones(length), 1000)

    first, _, last = act_on_all(ring, act)
    assert isinstance(first, host_ring.PeerLostError)
    assert isinstance(last, host_ring.PeerLostError)
    # The other one may have seen that its neighbour has given up.
    assert "the first worker of host 1 has ended" in f"{first} {last}"


@pytest.mark.parametrize("lengths", [(10, 11), (100_000, 90_000)])
def test_hosts_that_add_up_different_things_say_so(new_ring, lengths):
    ring = new_ring(2)

    def act(host):
        try:
            add_up(ring[host], np.ones(lengths[host]), 50_000)
        finally:
            ring[host]._outgoing.close()

    errors = act_on_all(ring, act)
    assert any(isinstance(error, host_ring.UnequalStepsError) for error in errors)
    assert any("add up different things in one step" in str(error) for error in errors)
