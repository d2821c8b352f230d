"""Two-level sums: first the workers of each host in shared memory, then the hosts."""

from __future__ import annotations

import contextlib
import socket
import threading
from itertools import pairwise

import pytest

np = pytest.importorskip("numpy")
host_sums = pytest.importorskip("nano_init.distributed.host_sums")
HostRing = pytest.importorskip("nano_init.distributed.host_ring").HostRing
tf = pytest.importorskip("tensorflow")

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def add_up(new_group):
    """Return a function that sums the tensors of the workers; each worker is a thread."""
    with contextlib.ExitStack() as stack:

        def add(given, workers, hosts, weights=None, *, compress=False):
            pairs = [socket.socketpair() for _ in range(hosts)]
            for end in (end for pair in pairs for end in pair):
                stack.enter_context(end)
            parts = []
            for host in range(hosts):
                ring = HostRing(pairs[host - 1][1], pairs[host][0], host, hosts)
                ends = new_group(workers) if workers > 1 else [None]
                parts += [
                    host_sums.HostSums(end, None if local else ring)
                    for local, end in enumerate(ends)
                ]
            sums = [None] * len(parts)

            def act(index):
                weight = None if weights is None else tf.constant(weights[index], tf.float64)
                tensors = [tf.constant(array) for array in given[index]]
                found = parts[index].sum(tensors, weight, compress=compress)
                sums[index] = [total.numpy() for total in found]

            threads = [threading.Thread(target=act, args=(i,)) for i in range(len(parts))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
                assert not thread.is_alive(), "a worker hangs"
            return sums

        yield add


def make(shapes, workers, dtype="float32"):
    rng = np.random.default_rng(workers)
    return [[rng.standard_normal(shape).astype(dtype) for shape in shapes] for _ in range(workers)]


@pytest.mark.parametrize(("workers", "hosts"), [(1, 3), (2, 2), (3, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_workers_get_the_same_bits(monkeypatch, add_up, workers, hosts, dtype):
    """A host sums its workers in their order; the order of the hosts depends on the part."""
    monkeypatch.setattr(host_sums, "_SEGMENT", 1 << 10)
    shapes = [(7,), (300, 9), (), (0, 3), (2500,)]
    given = make(shapes, workers * hosts, dtype)
    weights = [0.5, 0.25, 2.0, 1.0, 3.0, 1.0][: workers * hosts]

    sums = add_up(given, workers, hosts, weights)

    scaled = [[a * a.dtype.type(w) for a in own] for own, w in zip(given, weights, strict=True)]
    for number, shape in enumerate(shapes):
        expected = 0
        for host in range(hosts):
            here = [each[number] for each in scaled[host * workers : (host + 1) * workers]]
            expected = expected + sum(here[1:], start=here[0]) if host else sum(here[1:], here[0])
        for own in sums:
            assert own[number].shape == shape
            assert own[number].dtype == dtype
            np.testing.assert_array_equal(own[number], sums[0][number])
            if hosts == 2:
                np.testing.assert_array_equal(own[number], expected)
            np.testing.assert_allclose(own[number], expected, atol=1e-5)


def test_bfloat16_is_used_only_between_hosts(add_up):
    given = make([(50,)], 4)

    sums = add_up(given, 2, 2, compress=True)

    def narrow(array):
        return tf.cast(array, tf.bfloat16)

    hosts = [narrow(given[0][0] + given[1][0]), narrow(given[2][0] + given[3][0])]
    expected = tf.cast(hosts[0] + hosts[1], tf.float32).numpy()
    for own in sums:
        np.testing.assert_array_equal(own[0], expected)


def test_an_empty_sum_needs_no_peer():
    alone = host_sums.HostSums(None, None)
    (empty,) = alone.sum([tf.zeros((0, 4))], None, compress=False)
    assert empty.shape == (0, 4)


def test_segments_cover_every_element_once_and_start_aligned():
    sizes = [5, 0, 1 << 21, 3, 1 << 26]
    segments = host_sums._divide_into_segments(sizes)

    assert segments[0].start == 0
    assert segments[-1].stop == sum(sizes)
    assert len(segments) <= host_sums._MOST_SEGMENTS + 1
    for one, other in pairwise(segments):
        assert one.stop == other.start
        assert other.start % 16 == 0
    held = [(t, *p) for s in segments for t, p in zip(s.tensors, s.pieces, strict=True)]
    for number, size in enumerate(sizes):
        own = [(first, last) for tensor, first, last in held if tensor == number]
        assert sum(last - first for first, last in own) == size
