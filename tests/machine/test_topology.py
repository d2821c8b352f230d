"""Cores are sets of online sibling threads, however the kernel numbers and lists them."""

from __future__ import annotations

import pytest

from nano_init.machine.probe import probe

CPU = "sys/devices/system/cpu"
NODE = "sys/devices/system/node"


def topology_of(root):
    return probe(root, {}).topology


def test_threads_of_a_core_are_grouped_by_their_sibling_list(make_root, server):
    topology = topology_of(make_root(server(cores=4, smt=2, sockets=2, nodes=2)))

    assert [core.cpus for core in topology.cores] == [(0, 4), (1, 5), (2, 6), (3, 7)]
    assert [core.socket for core in topology.cores] == [0, 0, 1, 1]
    assert [core.node for core in topology.cores] == [0, 0, 1, 1]
    assert topology.sockets == 2


def test_masks_of_old_kernels_are_read(make_root, server):
    files = server(cores=2, smt=2)
    for cpu in range(4):
        del files[f"{CPU}/cpu{cpu}/topology/core_cpus_list"]
        files[f"{CPU}/cpu{cpu}/topology/thread_siblings"] = f"00000000,0000000{5 << cpu % 2:x}\n"
    files[f"{NODE}/node0/cpumap"] = "0000000f\n"
    del files[f"{NODE}/node0/cpulist"]

    topology = topology_of(make_root(files))

    assert [core.cpus for core in topology.cores] == [(0, 2), (1, 3)]
    assert topology.nodes[0].cpus == (0, 1, 2, 3)


def test_sibling_lists_may_have_a_stride(make_root, server):
    files = server(cores=2, smt=2)
    files[f"{CPU}/cpu0/topology/core_cpus_list"] = "0-2:2\n"

    assert topology_of(make_root(files)).cores[0].cpus == (0, 2)


def test_offline_siblings_do_not_count(make_root, server):
    files = server(cores=2, smt=2)
    files[f"{CPU}/online"] = "0-2\n"

    topology = topology_of(make_root(files))

    assert [core.cpus for core in topology.cores] == [(0, 2), (1,)]
    assert topology.online == (0, 1, 2)
    assert not topology.hybrid


def test_without_an_online_list_each_threads_online_file_counts(make_root, server):
    files = server(cores=3)
    del files[f"{CPU}/online"]
    files[f"{CPU}/cpu1/online"] = "0\n"

    assert topology_of(make_root(files)).online == (0, 2)


def test_without_sysfs_the_online_threads_come_from_proc_stat(make_root):
    root = make_root({"proc/stat": "cpu 1 2\ncpu0 1 2\ncpu5 1 2\nintr 5\n"})

    assert topology_of(root).online == (0, 5)


def test_missing_topology_folders_make_each_thread_a_core(make_root):
    root = make_root({f"{CPU}/online": "0-3\n", "proc/cpuinfo": "processor: 0\n"})

    machine = probe(root, {})

    assert len(machine.topology.cores) == 4
    assert machine.topology.sockets == 1
    assert machine.warnings == ()


def test_missing_sibling_lists_give_a_warning_if_cpuinfo_shows_smt(make_root):
    files = {f"{CPU}/online": "0-3\n", f"{CPU}/cpu0/x": ""}
    files["proc/cpuinfo"] = "processor: 0\nflags: lm\nsiblings: 4\ncpu cores: 2\n"

    (warning,) = probe(make_root(files), {}).warnings

    assert "0-3" in warning
    assert "4 threads on 2 cores" in warning


def test_without_sysfs_sockets_are_counted_in_cpuinfo(make_root):
    text = "processor: 0\nphysical id: 0\n\nprocessor: 1\nphysical id: 1\n"

    assert topology_of(make_root({"proc/cpuinfo": text})).sockets == 2


def test_package_id_of_minus_one_is_one_socket(make_root, server):
    files = server(cores=2)
    for cpu in range(2):
        files[f"{CPU}/cpu{cpu}/topology/physical_package_id"] = "-1\n"
        files[f"{CPU}/cpu{cpu}/topology/package_cpus_list"] = f"{cpu}\n"

    assert topology_of(make_root(files)).sockets == 1


def test_memory_only_nodes_are_listed_and_marked(make_root, server):
    files = server(cores=4)
    files[f"{NODE}/online"] = "0,7\n"
    files[f"{NODE}/has_memory"] = "7\n"
    files[f"{NODE}/node7/cpulist"] = "\n"
    files[f"{NODE}/node0/distance"] = "10 17\n"

    nodes = topology_of(make_root(files)).nodes

    assert [(n.id, n.cpus, n.has_memory) for n in nodes] == [
        (0, (0, 1, 2, 3), False),
        (7, (), True),
    ]
    assert nodes[0].distances == (10, 17)


def test_a_kernel_without_numa_has_one_node_with_all_processors(make_root):
    topology = topology_of(make_root({f"{CPU}/online": "0-1\n"}))

    assert [(n.id, n.cpus) for n in topology.nodes] == [(0, (0, 1))]
    assert {core.node for core in topology.cores} == {0}


def test_cache_groups_are_those_of_the_highest_level(make_root, server):
    """The CCX of AMD's Zen: four cores of a socket share a last-level cache."""
    files = server(cores=8)
    for cpu in range(8):
        for index, (level, shared) in enumerate([(1, f"{cpu}"), (3, "0-3" if cpu < 4 else "4-7")]):
            files[f"{CPU}/cpu{cpu}/cache/index{index}/level"] = f"{level}\n"
            files[f"{CPU}/cpu{cpu}/cache/index{index}/shared_cpu_list"] = shared + "\n"

    cores = topology_of(make_root(files)).cores

    assert [core.cache for core in cores] == [(0, 1, 2, 3)] * 4 + [(4, 5, 6, 7)] * 4


def test_a_core_without_the_last_level_uses_its_highest_level(make_root, server):
    """The low-power cores of Intel's Meteor Lake have no level 3 cache."""
    files = server(cores=4)
    for cpu in range(4):
        files[f"{CPU}/cpu{cpu}/cache/index0/level"] = "2\n"
        files[f"{CPU}/cpu{cpu}/cache/index0/shared_cpu_list"] = "0-1" if cpu < 2 else "2-3"
    for cpu in range(2):
        files[f"{CPU}/cpu{cpu}/cache/index1/level"] = "3\n"
        files[f"{CPU}/cpu{cpu}/cache/index1/shared_cpu_list"] = "0-1"

    cores = topology_of(make_root(files)).cores

    assert [core.cache for core in cores] == [(0, 1), (0, 1), (2, 3), (2, 3)]


def test_dies_and_clusters_are_read_if_the_kernel_reports_them(make_root, server):
    files = server(cores=4)
    for cpu in range(4):
        topology = f"{CPU}/cpu{cpu}/topology"
        files[f"{topology}/die_id"] = f"{cpu // 2}\n"
        files[f"{topology}/die_cpus_list"] = "0-1" if cpu < 2 else "2-3"
        files[f"{topology}/cluster_id"] = "65535\n"

    cores = topology_of(make_root(files)).cores

    assert [core.die for core in cores] == [0, 0, 1, 1]
    assert {core.cluster for core in cores} == {-1}


def test_thousands_of_processors_are_supported(make_root):
    files = {f"{CPU}/online": "0-4095\n"}
    files |= {
        f"{CPU}/cpu{cpu}/topology/core_cpus_list": f"{cpu},{cpu + 2048}" for cpu in range(2048)
    }

    topology = topology_of(make_root(files))

    assert len(topology.online) == 4096
    assert len(topology.cores) == 2048


def test_contradictory_sibling_lists_still_place_every_thread_once(make_root, server):
    files = server(cores=4)
    files[f"{CPU}/cpu0/topology/core_cpus_list"] = "0-2\n"
    files[f"{CPU}/cpu3/topology/core_cpus_list"] = "0-2\n"

    machine = probe(make_root(files), {})

    assert [core.cpus for core in machine.topology.cores] == [(0, 1, 2), (3,)]
    assert any("cpu3" in warning for warning in machine.warnings)


@pytest.mark.parametrize("garbage", ["nonsense", "0-99999999", "-3", b"\xff\xfe\x00"])
def test_an_invalid_file_is_reported_and_the_siblings_file_is_used(make_root, server, garbage):
    files = server(cores=2, smt=2)
    files[f"{CPU}/cpu0/topology/core_cpus_list"] = garbage

    machine = probe(make_root(files), {})

    assert [core.cpus for core in machine.topology.cores] == [(0, 2), (1, 3)]
    assert any("cpu0/topology/core_cpus_list" in warning for warning in machine.warnings)
