"""Workers agree on who takes part in a save, in whatever order each of them saves."""

from __future__ import annotations

import itertools
import os
import re
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numpy")
consensus = pytest.importorskip("nano_init.distributed.save_consensus")
Participation, WorkerView, decide = (
    consensus.Participation,
    consensus.WorkerView,
    consensus.decide,
)

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers need Linux")

WHOLE_FIRST, ALONE = (True, True), (False, True)
WHOLE, AFTER = (True, False), (False, False)


def perform(new_group, programs, seconds=60):
    """Let workers reach their saves, then a common step; return the decisions of each worker.

    Also return the file names in the order in which they were completed.
    """
    import numpy as np

    ends, written = new_group(len(programs)), []
    told = [[] for _ in programs]

    def work(index):
        for path in programs[index]:
            participation = ends[index].begin_save(path, seconds)
            told[index].append((participation.is_complete, participation.is_writer))
            name = re.sub("[0-9]", "", os.path.basename(path.rstrip("/")))
            if participation.is_writer:
                written.append(name)
            ends[index].finish_save()
            if participation.is_complete:
                ends[index].all_reduce([np.ones(1)])
            assert name in written
        ends[index].all_reduce([np.ones(2)])

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(len(programs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=15)
        assert not thread.is_alive(), "a worker hangs"
    return told, written


@pytest.mark.parametrize(
    ("programs", "expected"),
    [
        # Each worker saves a different file.
        ([["a"], ["b"]], [[ALONE], [ALONE]]),
        ([["a"], ["b"], ["c"]], [[ALONE], [ALONE], [ALONE]]),
        # The first worker saves its own file before the common one.
        ([["a", "b"], ["b"]], [[ALONE, WHOLE_FIRST], [WHOLE]]),
        ([["a", "b"], ["b"], ["b"]], [[ALONE, WHOLE_FIRST], [WHOLE], [WHOLE]]),
        # A later worker saves its own file before the common one, which is already written then.
        ([["b"], ["a", "b"]], [[ALONE], [ALONE, AFTER]]),
        ([["b"], ["a", "b"], ["b"]], [[ALONE], [ALONE, AFTER], [AFTER]]),
        # The common file before a worker's own, and several saves of the same name.
        ([["b"], ["b", "a"]], [[WHOLE_FIRST], [WHOLE, ALONE]]),
        ([["a", "a"], ["a"]], [[WHOLE_FIRST, ALONE], [WHOLE]]),
        # Names that contain the time or the number of the worker.
        ([["m-0.keras"], ["m-1.keras"]], [[WHOLE_FIRST], [WHOLE]]),
        ([["one/m.keras/"], ["other/m.keras"]], [[WHOLE_FIRST], [WHOLE]]),
        ([["a"], [], ["a"]], [[ALONE], [], [AFTER]]),
    ],
)
def test_workers_agree_on_who_takes_part_in_each_save(new_group, programs, expected):
    for _ in range(20):
        assert perform(new_group, programs)[0] == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), max_size=4), min_size=2, max_size=4))
def test_no_order_of_saves_blocks_a_worker_or_loses_a_file(new_group, programs):
    _, written = perform(new_group, programs)

    assert set(written) == set(itertools.chain.from_iterable(programs))


def test_a_late_worker_does_not_write_the_file_again_and_waits_until_it_is_complete(new_group):
    ends = new_group(2)

    assert ends[0].begin_save("a", 0.05) == Participation(is_complete=False, is_writer=True)
    late = threading.Thread(target=ends[1].begin_save, args=("a", 60), daemon=True)
    late.start()
    late.join(30)
    assert not late.is_alive()
    finishing = threading.Thread(target=ends[1].finish_save, daemon=True)
    finishing.start()
    finishing.join(0.1)
    assert finishing.is_alive(), "the file is not complete yet"
    ends[0].finish_save()
    finishing.join(30)
    assert not finishing.is_alive()


def test_workers_do_not_wait_for_a_writer_that_has_left(new_group):
    ends = new_group(3)
    ends[2].pass_collective()
    both = [
        threading.Thread(target=ends[i].begin_save, args=("a", 60), daemon=True) for i in range(2)
    ]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(30)
        assert not thread.is_alive()
    ends[0].leave()

    finishing = threading.Thread(target=ends[1].finish_save, daemon=True)
    finishing.start()
    finishing.join(30)
    assert not finishing.is_alive()


def test_more_saves_than_there_are_records_do_not_get_mixed_up(new_group):
    programs = [["a"] * 200, ["b", *["a"] * 150]]
    told, written = perform(new_group, programs)

    assert [len(own) for own in told] == [200, 151]
    assert "b" in written


@pytest.mark.parametrize(
    ("index", "workers", "expected"),
    [
        (0, [WorkerView({1: None}, 1), WorkerView({})], 1),
        (0, [WorkerView({1: None}, 1), WorkerView({}, is_gone=True)], Participation(False, True)),
        (0, [WorkerView({1: None}, 1), WorkerView({2: None}, 2)], Participation(False, True)),
        (1, [WorkerView({1: None}, 1), WorkerView({2: None}, 2)], 0),
        # Worker 0 has already decided the save at which worker 2 waits.
        (
            1,
            [
                WorkerView({1: False, 2: None}, 2),
                WorkerView({2: None}, 2),
                WorkerView({1: None}, 1),
            ],
            2,
        ),
    ],
)
def test_decide_returns_the_participation_or_the_worker_to_wait_for(index, workers, expected):
    mark = workers[index].waits_at
    assert decide(index, mark, workers) == expected
