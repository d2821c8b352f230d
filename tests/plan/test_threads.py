"""The usable cores are the minimum of all bounds, and the reason lists each bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init.machine.facts import Core, Isa, Limits, Machine, Node, Topology
from nano_init.plan.threads import choose_cores, count_threads, thread_warnings

ISA = Isa("x86_64", "GenuineIntel", "Made up", frozenset(), None, None)


def build(cores, nodes=(), **limits):
    """Return a machine; cores are (cpus,) or (cpus, kind) or (cpus, kind, node)."""
    cores = tuple(
        Core(tuple(c[0]), 0, c[2] if len(c) > 2 else 0, c[1] if len(c) > 1 else "performance")
        for c in cores
    )
    online = tuple(sorted(cpu for core in cores for cpu in core.cpus))
    hybrid = len({core.kind for core in cores}) > 1
    topology = Topology(cores, nodes or (Node(0, online),), 1, hybrid)
    return Machine(ISA, topology, Limits(**{"affinity": online, **limits}))


def smt_server(cores, **limits):
    return build([((core, core + cores),) for core in range(cores)], **limits)


def hybrid_laptop(**limits):
    fast = [((2 * n, 2 * n + 1),) for n in range(6)]
    return build([*fast, *(((12 + n,), "efficiency") for n in range(8))], **limits)


def test_the_mask_counts_cores_and_the_quota_counts_processors():
    count = count_threads(smt_server(192, affinity=(*range(6), *range(192, 198)), cpu_quota=7.5))

    assert count.usable_cores == 6
    assert count.reason == (
        "6: 6 cores (12 hardware threads) in the affinity mask; "
        "quota 7.5 does not bind; host has 384"
    )


def test_quota_is_rounded_down_and_not_divided_by_smt():
    """Three threads on a quota of 3.9 processors finish together; four would be throttled."""
    count = count_threads(smt_server(8, cpu_quota=3.9))

    assert count.usable_cores == 3
    assert count.reason == "3: 8 cores (16 hardware threads) in the affinity mask; quota 3.9 binds"


def test_sibling_threads_in_the_mask_count_as_one_core():
    count = count_threads(smt_server(4, affinity=(1, 5)))

    assert count.usable_cores == 1
    assert count.reason == "1: 1 core (2 hardware threads) in the affinity mask; host has 8"


@pytest.mark.parametrize("quota", [0.05, 0.5, 0.999])
def test_quota_below_one_processor_leaves_one_core(quota):
    count = count_threads(smt_server(4, cpu_quota=quota))

    assert count.usable_cores == 1
    assert "binds" in count.reason


def test_quota_is_never_shown_rounded_up():
    assert "quota 2.99 binds" in count_threads(smt_server(4, cpu_quota=2.9999)).reason


def test_the_users_cap_limits_and_is_reported_with_its_source():
    machine = smt_server(8)

    assert count_threads(machine, 3).reason.endswith("--threads 3 binds")
    assert count_threads(machine, 3).usable_cores == 3
    assert count_threads(machine, 99, "NANO_INIT_THREADS").usable_cores == 8
    assert count_threads(machine, 99, "NANO_INIT_THREADS").reason.endswith(
        "NANO_INIT_THREADS 99 does not bind"
    )


def test_efficiency_cores_are_not_used():
    count = count_threads(hybrid_laptop())

    assert count.usable_cores == 6
    assert (
        "6 performance cores (20 hardware threads) in the affinity mask, 8 slower" in count.reason
    )


def test_efficiency_cores_are_used_with_a_warning_if_there_are_no_others():
    machine = hybrid_laptop(affinity=(12, 13, 14))

    assert count_threads(machine).usable_cores == 3
    assert "3 efficiency cores (3 hardware threads) in" in count_threads(machine).reason
    (warning,) = thread_warnings(machine, {})
    assert "efficiency cores only" in warning


def test_low_power_cores_are_the_last_choice():
    machine = build([((0,), "efficiency"), ((1,), "low-power"), ((2,), "performance")])

    assert [c.cpus for c in choose_cores(machine.topology.cores, [0, 1])] == [(0,)]
    assert [c.cpus for c in choose_cores(machine.topology.cores, [1])] == [(1,)]


@pytest.mark.parametrize(
    ("limits", "usable"),
    [
        ({}, 2),  # four unbound workers share eight cores
        ({"affinity": (0, 1, 8, 9)}, 2),  # each is already bound to its share
        ({"affinity": (0, 1, 2, 3)}, 2),  # two workers are bound to the same half
        ({"affinity": (0,)}, 1),
        ({"affinity": (0, 1, 2, 3), "cpuset": (0, 1, 2, 3)}, 1),  # a container of four cores
        ({"cpu_quota": 4.0}, 1),  # the workers share the quota
        ({"cpu_quota": 2.0}, 1),
    ],
)
def test_workers_of_a_job_divide_the_cores_of_the_job(limits, usable):
    machine = smt_server(8, local_workers=4, local_workers_source="LOCAL_WORLD_SIZE", **limits)

    count = count_threads(machine)

    assert count.usable_cores == usable
    assert "4 workers" in count.reason
    assert "LOCAL_WORLD_SIZE" in count.reason


def test_a_machine_with_one_core_gives_no_warnings():
    assert thread_warnings(build([((0,),)]), {}) == ()


def test_a_quota_below_one_core_gives_a_warning_with_its_file():
    machine = smt_server(2, cpu_quota=0.5, cpu_quota_source="/sys/fs/cgroup/cpu.max")

    (warning,) = thread_warnings(machine, {})

    assert "0.5" in warning
    assert "/sys/fs/cgroup/cpu.max" in warning


def test_memory_on_another_node_gives_a_warning():
    nodes = (Node(0, (0,)), Node(1, (1,)), Node(2, (), has_memory=True))
    cores = [((0,), "performance", 0), ((1,), "performance", 1)]

    far = build(cores, nodes, affinity=(1,), memory_nodes=(0,))
    near = build(cores, nodes, affinity=(1,), memory_nodes=(0, 1))

    assert "node 1" in thread_warnings(far, {})[0]
    assert "node 0" in thread_warnings(far, {})[0]
    assert thread_warnings(near, {}) == ()


def test_a_node_without_memory_gives_a_warning():
    nodes = (Node(0, (0,), has_memory=False), Node(1, (1,)))
    cores = [((0,), "performance", 0), ((1,), "performance", 1)]

    assert thread_warnings(build(cores, nodes, affinity=(0,)), {})
    assert not thread_warnings(build(cores, nodes, affinity=(0, 1)), {})


def test_isolated_processors_in_the_mask_give_a_warning():
    (warning,) = thread_warnings(smt_server(4, isolated=(2, 3)), {})

    assert "2-3 are isolated" in warning
    assert thread_warnings(smt_server(4, isolated=(2, 3), affinity=(0, 1)), {}) == ()


@given(
    cores=st.integers(1, 16),
    smt=st.integers(1, 4),
    mask=st.sets(st.integers(0, 63), min_size=1),
    quota=st.none() | st.floats(0.001, 100),
    cap=st.none() | st.integers(1, 100),
    workers=st.integers(1, 20),
)
def test_usable_cores_are_at_least_one_and_at_most_every_bound(
    cores, smt, mask, quota, cap, workers
):
    groups = [(tuple(core + n * cores for n in range(smt)),) for core in range(cores)]
    affinity = tuple(sorted(cpu for cpu in mask if cpu < cores * smt)) or (0,)
    machine = build(groups, affinity=affinity, cpu_quota=quota, local_workers=workers)

    usable = count_threads(machine, cap).usable_cores

    assert 1 <= usable <= len({cpu % cores for cpu in affinity})
    assert usable <= max(1, quota or usable)
    assert usable <= (cap or usable)
    assert usable <= max(1, cores // workers)


def test_binding_of_threads_gives_a_warning():
    assert "one core" in thread_warnings(smt_server(4), {"OMP_PROC_BIND": "true"})[0]
