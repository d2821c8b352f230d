"""Each worker gets separate cores, close to each other and to their memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init.errors import UsageError
from nano_init.machine.cpulist import format_cpu_list
from nano_init.machine.facts import Core, Isa, Limits, Machine, Node, Topology
from nano_init.plan.decide import decide
from nano_init.plan.placement import machine_at, parse_workers, place_workers
from nano_init.plan.settings import Options

ISA = Isa("x86_64", "AuthenticAMD", "Made up", frozenset(), None, None)


def server(nodes: int, cores: int, *, smt: bool = True, cache: int = 0, **limits) -> Machine:
    """Return a server as Linux numbers it: all first hardware threads, then all siblings.

    Args:
        nodes: NUMA nodes, one per socket.
        cores: cores per node.
        smt: Whether each core has two hardware threads.
        cache: cores per last-level cache; 0 for all cores of a node.
    """
    total = nodes * cores
    all_cores = []
    for number in range(total):
        cpus = (number, number + total) if smt else (number,)
        node, size = number // cores, cache or cores
        first = number // size * size
        sharers = tuple(range(first, first + size))
        all_cores.append(Core(cpus, node, node, cache=sharers))
    online = tuple(sorted(cpu for core in all_cores for cpu in core.cpus))
    rooms = tuple(
        Node(n, tuple(cpu for core in all_cores if core.node == n for cpu in core.cpus))
        for n in range(nodes)
    )
    topology = Topology(tuple(all_cores), rooms, nodes)
    return Machine(ISA, topology, Limits(**{"affinity": online, **limits}))


def table(placement):
    return [(format_cpu_list(p.cpus), p.cores, p.nodes) for p in placement.places]


def test_two_sockets_of_64_cores_get_two_workers():
    """Counted manually: socket 0 has threads 0-63 and their siblings 128-191."""
    placement = place_workers(server(2, 64), None)

    assert table(placement) == [("0-63,128-191", 64, (0,)), ("64-127,192-255", 64, (1,))]
    assert placement.reason == "2 workers: one per NUMA node"


def test_four_sockets_of_48_cores_get_four_workers_or_two_on_two_sockets_each():
    machine = server(4, 48, smt=False)

    assert table(place_workers(machine, None)) == [
        ("0-47", 48, (0,)),
        ("48-95", 48, (1,)),
        ("96-143", 48, (2,)),
        ("144-191", 48, (3,)),
    ]
    assert table(place_workers(machine, 2)) == [("0-95", 96, (0, 1)), ("96-191", 96, (2, 3))]


def test_eight_nodes_of_8_cores_fit_sixteen_workers_of_half_a_node():
    placement = place_workers(server(8, 8), 16)

    assert table(placement)[:3] == [
        ("0-3,64-67", 4, (0,)),
        ("4-7,68-71", 4, (0,)),
        ("8-11,72-75", 4, (1,)),
    ]
    assert table(placement)[15] == ("60-63,124-127", 4, (7,))


def test_on_one_node_each_worker_gets_a_last_level_cache():
    placement = place_workers(server(1, 32, smt=False, cache=8), None)

    assert [p[0] for p in table(placement)] == ["0-7", "8-15", "16-23", "24-31"]
    assert placement.reason == "4 workers: one per last-level cache"


def test_small_last_level_caches_do_not_get_a_worker_each():
    placement = place_workers(server(1, 16, cache=4), None)

    assert len(placement.places) == 1
    assert placement.places[0].nodes == ()
    assert placement.reason == (
        "1 worker: the smallest of the 4 last-level caches serves 4 cores; with fewer than 8 cores "
        "a worker loses more time to all-reduce than it gains"
    )


@pytest.mark.parametrize(
    ("machine", "why"),
    [
        (server(1, 16), "all cores share one last-level cache, where two workers can be slower"),
        (server(1, 1), "there is one core"),
    ],
)
def test_the_reason_for_a_single_worker_is_given(machine, why):
    assert place_workers(machine, None).reason.startswith(f"1 worker: {why}")


def test_the_first_workers_get_one_more_core_if_the_division_has_a_remainder():
    assert [p.cores for p in place_workers(server(1, 8), 3).places] == [3, 3, 2]


def test_only_cores_in_the_affinity_mask_are_placed():
    machine = server(2, 4, smt=False, affinity=(1, 2, 4, 5))

    assert [p[0] for p in table(place_workers(machine, None))] == ["1-2", "4-5"]


def test_a_quota_limits_the_workers_and_their_cores():
    machine = server(2, 8, smt=False, cpu_quota=4.0)

    assert [p.cores for p in place_workers(machine, None).places] == [2, 2]
    assert len(place_workers(server(4, 8, cpu_quota=2.5), None).places) == 2


def test_the_users_cap_applies_to_all_workers_together():
    assert [p.cores for p in place_workers(server(1, 8), 2, 4).places] == [2, 2]


def test_more_workers_than_cores_are_rejected_without_oversubscribe():
    machine = server(1, 2, smt=False)

    with pytest.raises(UsageError, match=r"3 is more than the 2 cores .* --oversubscribe"):
        place_workers(machine, 3)
    placement = place_workers(machine, 3, oversubscribe=True)
    assert table(placement) == [("0-1", 2, ())] * 3
    assert not placement.is_exclusive


def test_memory_is_not_bound_if_a_node_is_not_allowed():
    machine = server(2, 4, memory_nodes=(1,))

    assert [p.nodes for p in place_workers(machine, 2).places] == [(), ()]


def test_unbound_launchers_on_one_host_get_a_part_each():
    machine = server(1, 8, smt=False)

    parts = [place_workers(machine, 1, slot=(i, 2)).places[0].cpus for i in range(2)]
    assert parts == [(0, 1, 2, 3), (4, 5, 6, 7)]


def test_a_launcher_bound_to_its_share_keeps_all_of_it():
    machine = server(1, 8, smt=False, affinity=(4, 5, 6, 7))

    assert place_workers(machine, 1, slot=(1, 2)).places[0].cpus == (4, 5, 6, 7)


@pytest.mark.parametrize(("workers", "quota", "threads"), [(2, None, "4"), (2, 6.0, "3")])
def test_a_workers_threads_are_limited_by_its_cores_and_its_share_of_the_quota(
    workers, quota, threads
):
    machine = server(1, 8, cpu_quota=quota)
    placement = place_workers(machine, workers)

    for index in range(workers):
        plan = decide(machine_at(machine, placement, index), {}, Options(), None)
        assert plan.environment()["TF_NUM_INTRAOP_THREADS"] == threads


def test_workers_that_share_cores_divide_their_threads():
    machine = server(1, 4, smt=False)
    placement = place_workers(machine, 8, oversubscribe=True)

    plan = decide(machine_at(machine, placement, 5), {}, Options(), None)
    assert plan.environment()["TF_NUM_INTRAOP_THREADS"] == "1"


@given(
    nodes=st.integers(1, 8), cores=st.integers(1, 12), workers=st.integers(1, 40), smt=st.booleans()
)
def test_no_two_workers_share_a_core_and_none_is_much_larger(nodes, cores, workers, smt):
    machine = server(nodes, cores, smt=smt)
    if workers > nodes * cores:
        with pytest.raises(UsageError):
            place_workers(machine, workers)
        return

    places = place_workers(machine, workers).places
    cpus = [cpu for place in places for cpu in place.cpus]
    sizes = [place.cores for place in places]
    assert len(places) == workers
    assert len(cpus) == len(set(cpus))
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("text", ["0", "-1", "two", "", "1.5", "99999999999"])
def test_an_invalid_number_of_workers_is_rejected(text):
    with pytest.raises(UsageError, match="--nproc-per-node"):
        parse_workers(text)
    assert parse_workers("auto") is None
