"""Workers exchange data through shared memory: all get the same bits, or all get an error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nano_init.launch.shared_memory import create_shared_memory
from nano_init.protocol.shared_memory_layout import layout_of

np = pytest.importorskip("numpy")
group_module = pytest.importorskip("nano_init.distributed.shared_memory_group")
SharedMemoryGroup = group_module.SharedMemoryGroup
PeerLostError, UnequalStepsError = group_module.PeerLostError, group_module.UnequalStepsError

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers need Linux")


@pytest.fixture(scope="module")
def groups(new_group):
    """Return the ends of a group for each number of workers; each worker is a thread here."""
    return {workers: new_group(workers) for workers in (2, 3, 5)}


def act_together(acts):
    """Call functions concurrently, and return what each returned or raised."""
    results = [None] * len(acts)

    def act(index):
        try:
            results[index] = acts[index]()
        except (PeerLostError, UnequalStepsError) as error:
            results[index] = error

    threads = [threading.Thread(target=act, args=(i,), daemon=True) for i in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive(), "a worker hangs"
    return results


def sum_in_order(terms):
    total = terms[0].copy()
    for term in terms[1:]:
        total = total + term
    return total


# Around a chunk (131,072 float32), around the part that one worker sums (16,384), and empty.
LENGTHS = st.sampled_from([0, 1, 7, 1000, 16383, 16385, 65536, 131071, 131072, 131073, 400_001])


@settings(max_examples=40, deadline=None)
@given(
    workers=st.sampled_from([2, 3, 5]),
    lengths=st.lists(LENGTHS, min_size=1, max_size=4),
    dtype=st.sampled_from(["float32", "float64"]),
    weights=st.none() | st.lists(st.floats(0, 1), min_size=5, max_size=5),
    seed=st.integers(0, 99),
)
def test_sums_equal_numpy_sums_in_worker_order_bit_for_bit(
    groups, workers, lengths, dtype, weights, seed
):
    rng = np.random.default_rng(seed)
    given_ = [[rng.standard_normal(n).astype(dtype) for n in lengths] for _ in range(workers)]
    factors = weights[:workers] if weights else [None] * workers
    ends = groups[workers]

    sums = act_together(
        [lambda i=i: ends[i].all_reduce(given_[i], factors[i]) for i in range(workers)]
    )

    scale = [np.dtype(dtype).type(1 if f is None else f) for f in factors]
    for position in range(len(lengths)):
        expected = sum_in_order([given_[i][position] * scale[i] for i in range(workers)])
        for own in sums:
            assert own[position].dtype == expected.dtype
            assert own[position].tobytes() == expected.tobytes()


@settings(max_examples=20, deadline=None)
@given(workers=st.sampled_from([2, 3, 5]), lengths=st.lists(LENGTHS, min_size=1, max_size=3))
def test_the_first_worker_gets_the_sums_and_broadcasts_a_vector(groups, workers, lengths):
    rng = np.random.default_rng(workers)
    given_ = [[rng.standard_normal(n).astype("float32") for n in lengths] for _ in range(workers)]
    vectors = [np.full(sum(lengths), -1, np.float32) for _ in range(workers)]

    def act(index):
        end = groups[workers][index]
        end.reduce_to_first(given_[index], vectors[index], 0.5)
        kept = vectors[index].copy()
        end.broadcast(vectors[index])
        return kept

    kept = act_together([lambda i=i: act(i) for i in range(workers)])

    half = np.float32(0.5)
    sums = [sum_in_order([own[i] * half for own in given_]) for i in range(len(lengths))]
    expected = np.concatenate(sums).tobytes()
    assert kept[0].tobytes() == expected
    assert all((own == -1).all() for own in kept[1:])
    assert all(vector.tobytes() == expected for vector in vectors)


def test_shapes_nan_inf_and_subnormals_are_preserved(groups):
    value = np.array([[np.nan, np.inf, -np.inf], [-0.0, 3e38, 1e-45]], np.float32)

    sums = act_together(
        [lambda end=end: end.all_reduce([value, value[0, :0]]) for end in groups[2]]
    )

    with np.errstate(all="ignore"):
        expected = value + value
    for own in sums:
        np.testing.assert_array_equal(own[0], expected)
        assert own[1].shape == (0,)


@settings(max_examples=20, deadline=None)
@given(
    workers=st.sampled_from([2, 3]),
    rows=st.lists(st.sampled_from([0, 1, 5, 70_000]), min_size=3, max_size=3),
    dtype=st.sampled_from(["int64", "float32", "float16"]),
)
def test_all_gather_returns_rows_in_worker_order(groups, workers, rows, dtype):
    given_ = [np.full((rows[i], 3), i, dtype) for i in range(workers)]
    ends = groups[workers]

    gathered = act_together([lambda i=i: ends[i].all_gather(given_[i]) for i in range(workers)])

    for own in gathered:
        np.testing.assert_array_equal(own, np.concatenate(given_))


def test_delayed_workers_never_mix_up_two_sums(groups):
    """Each worker is randomly late; it never reads the previous or the next sum."""
    ends = groups[3]

    def train(index):
        rng = np.random.default_rng(index)
        wrong = []
        for step in range(300):
            if rng.random() < 0.1:
                time.sleep(0.002 * rng.random())
            length = (10, 20_000, 3)[step % 3]
            (total,) = ends[index].all_reduce([np.full(length, step + index, np.float32)])
            rows = ends[index].all_gather(np.full(index + 1, step)) if step % 5 == 0 else []
            if not (total == 3 * step + 3).all() or any(row != step for row in rows):
                wrong.append(step)
        return wrong

    assert act_together([lambda i=i: train(i) for i in range(3)]) == [[], [], []]


def test_a_sum_does_not_change_when_the_next_one_is_computed(groups):
    def train(end):
        kept = [end.all_reduce([np.full(50_000, step, np.float32)])[0] for step in range(6)]
        return [set(sums.tolist()) for sums in kept]

    expected = [{2.0 * step} for step in range(6)]
    assert act_together([lambda end=end: train(end) for end in groups[2]]) == [expected] * 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda end: end.all_reduce([np.ones(3)]), lambda end: end.all_reduce([np.ones(4)])),
        (lambda end: end.all_reduce([np.ones(3)]), lambda end: end.all_gather(np.ones(3))),
        (
            lambda end: end.all_reduce([np.ones(3), np.ones(1)]),
            lambda end: end.all_reduce([np.ones(1), np.ones(3)]),
        ),
        (lambda end: end.broadcast(np.ones(3)), lambda end: end.broadcast(np.ones(4))),
    ],
    ids=["lengths", "kinds", "order", "vectors"],
)
def test_all_workers_get_an_error_when_they_sum_different_things(new_group, first, second):
    ends = new_group(2)

    results = act_together([lambda: first(ends[0]), lambda: second(ends[1])])

    assert all(isinstance(result, UnequalStepsError) for result in results)
    assert "worker 0 and its peers add up different things" in str(results[0])


def test_workers_do_not_wait_for_a_worker_that_has_left(new_group):
    ends = new_group(2)
    ends[1].leave()

    (error,) = act_together([lambda: ends[0].all_reduce([np.ones(3)])])

    assert isinstance(error, PeerLostError)
    assert "worker 1" in str(error)
    assert "has ended while worker 0 waits" in str(error)


def test_a_collective_that_another_worker_has_skipped_is_reported(new_group):
    ends = new_group(2)
    for end in ends:
        end.pass_collective()
    assert act_together([lambda e=end: e.all_reduce([np.ones(1)])[0] for end in ends]) == [2.0, 2.0]
    ends[1].pass_collective()

    (error,) = act_together([lambda: ends[0].all_reduce([np.ones(3)])])

    assert isinstance(error, UnequalStepsError)
    assert "worker 1 waits in predict" in str(error)
    assert "which worker 0 has skipped" in str(error)


def test_a_collective_does_not_wait_for_a_worker_that_has_left(new_group):
    ends = new_group(2)
    ends[1].leave()
    ends[0].pass_collective()

    with pytest.raises(PeerLostError, match=r"worker 1 .* has ended"):
        ends[0].pass_collective(takes_all=True)


@pytest.mark.parametrize(
    ("acts", "expected"),
    [
        ("aaa", [(True, True), (True, False), (True, False)]),
        ("a..", [(False, True), None, None]),
        (".aa", [None, (False, True), (False, False)]),
        # A worker that leaves without saving is not waited for; one that leaves later took part.
        ("aal", [(False, True), (False, False), None]),
    ],
)
def test_workers_know_who_else_takes_part_in_a_save(new_group, acts, expected):
    ends = new_group(3)

    def work(index):
        time.sleep(0.02 * index)
        took = ends[index].begin_save("m.keras", 60) if acts[index] == "a" else None
        if acts[index] == "l":
            ends[index].leave()
        elif "l" not in acts:
            ends[index].all_reduce([np.ones(3)])
        return took and (took.is_complete, took.is_writer)

    for _ in range(1 if "l" in acts else 50):
        assert act_together([lambda i=i: work(i) for i in range(3)]) == expected


def test_a_worker_in_a_tensorflow_collective_takes_no_part_in_a_save(new_group):
    ends = new_group(2)
    ends[1].pass_collective()
    assert not ends[0].begin_save("m.keras", 60).is_complete
    ends[0].pass_collective()

    assert [
        a.is_complete
        for a in act_together([lambda e=end: e.begin_save("m.keras", 60) for end in ends])
    ] == [True, True]


def test_a_worker_that_waits_long_reports_whom_it_waits_for(new_group, capfd, monkeypatch):
    monkeypatch.setattr(group_module, "_PATIENCE_SECONDS", 0.05)
    ends = new_group(2)

    def continue_late():
        time.sleep(0.3)
        ends[1].pass_collective()

    act_together([lambda: ends[0].begin_save("m.keras", 60), continue_late])
    assert capfd.readouterr().err == (
        "nano-run: worker 0 saves 'm.keras' once worker 1 saves too, reaches its next step or "
        "ends, or after 60 s (--start-timeout); a script should not wait for the file in between\n"
    )


PEER = """
import os, sys, time
import numpy as np
from nano_init.distributed.shared_memory_group import SharedMemoryGroup
end = SharedMemoryGroup(int(sys.argv[1]), 1, 2)
total = end.all_reduce([np.arange(200_000, dtype=np.float32)])[0]
print(total.sum(), flush=True)
time.sleep(60)
"""


def test_processes_sum_like_threads_and_do_not_wait_for_a_killed_worker():
    fd = create_shared_memory(2)
    end = SharedMemoryGroup(fd, 0, 2)
    peer = subprocess.Popen(
        [sys.executable, "-c", PEER, str(fd)], pass_fds=[fd], stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
    )  # fmt: skip
    total = end.all_reduce([np.arange(200_000, dtype=np.float32)])[0]
    assert peer.stdout is not None
    assert float(peer.stdout.readline()) == total.sum()
    timer = threading.Timer(0.5, lambda: (peer.send_signal(signal.SIGKILL), peer.wait()))
    timer.start()

    with pytest.raises(PeerLostError, match=f"process {peer.pid}"):
        end.all_reduce([np.ones(3)])
    timer.join()
    peer.stdout.close()
    os.close(fd)


def test_the_shared_memory_has_no_name_that_could_leak():
    before = set(os.listdir("/dev/shm"))
    fd = create_shared_memory(2)

    assert set(os.listdir("/dev/shm")) == before
    assert os.fstat(fd).st_nlink == 0
    assert os.fstat(fd).st_size == layout_of(2).size
    os.close(fd)


@given(st.integers(2, 300))
def test_regions_of_the_memory_layout_do_not_overlap(workers):
    layout = layout_of(workers)
    turns = [(worker, parity) for parity in (0, 1) for worker in range(workers)]
    semaphores = [layout.semaphore(*turn) for turn in turns]
    slots = [layout.slot(*turn) for turn in turns]

    assert len(set(semaphores)) == len(semaphores)
    assert max(semaphores) + 64 <= layout.notices
    assert layout.notices + 64 * workers <= layout.saves
    assert layout.saves + 16 * layout.records * workers <= min(slots)
    assert all(b - a == layout.chunk for a, b in pairwise(slots))
    assert max(slots) + layout.chunk <= layout.sums
    assert layout.sums + layout.chunk == layout.size
    assert layout.size < 80 << 20
    assert layout.chunk % 4096 == layout.slot(0, 0) % 4096 == 0
