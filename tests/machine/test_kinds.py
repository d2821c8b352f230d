"""Performance and efficiency cores are distinguished by the best available source."""

from __future__ import annotations

import pytest

from nano_init.machine.kinds import split_at_gap
from nano_init.machine.probe import probe

CPU = "sys/devices/system/cpu"


def kinds_of(root):
    topology = probe(root, {}).topology
    return "".join(core.kind[0] for core in topology.cores), topology


def with_speeds(files, name, speeds):
    return files | {f"{CPU}/cpu{cpu}/{name}": f"{s}\n" for cpu, s in enumerate(speeds)}


def test_the_kernels_core_lists_take_precedence(make_root, server):
    files = with_speeds(server(cores=6), "cpu_capacity", [1, 1, 1, 9, 9, 9])
    files["sys/devices/cpu_core/cpus"] = "0-1\n"
    files["sys/devices/cpu_atom/cpus"] = "2-4\n"
    files["sys/devices/cpu_lowpower/cpus"] = "5\n"

    kinds, topology = kinds_of(make_root(files))

    assert kinds == "ppeeel"
    assert topology.hybrid
    assert topology.kinds_source == "/sys/devices/cpu_core/cpus"


def test_processor_with_efficiency_cores_switched_off_is_not_hybrid(make_root, server):
    files = server(cores=2) | {"sys/devices/cpu_core/cpus": "0-1\n"}

    kinds, topology = kinds_of(make_root(files))

    assert (kinds, topology.hybrid, topology.kinds_source) == ("pp", False, "")


@pytest.mark.parametrize(
    "name", ["cpu_capacity", "acpi_cppc/highest_perf", "cpufreq/cpuinfo_max_freq"]
)
def test_each_speed_separates_core_kinds_at_a_clear_gap(make_root, server, name):
    files = with_speeds(server(cores=4), name, [1024, 1000, 700, 690])

    kinds, topology = kinds_of(make_root(files))

    assert kinds == "ppee"
    assert topology.kinds_source == f"/sys/devices/system/cpu/cpu*/{name}"


def test_equal_capacities_defer_to_the_next_source(make_root, server):
    """Linux on x86 reports a capacity of 1024 for every core while SMT is on."""
    files = with_speeds(server(cores=4), "cpu_capacity", [1024] * 4)
    files = with_speeds(files, "acpi_cppc/highest_perf", [64, 67, 39, 39])

    assert kinds_of(make_root(files))[0] == "ppee"


@pytest.mark.parametrize(
    "speeds",
    [
        [64, 67, 64, 64],  # Turbo Boost Max 3.0
        [236, 231, 226, 221, 216, 211, 206, 201, 196, 191, 186, 181, 176, 171, 166],  # preferred
        [1, 1, 1, 1],
    ],
)
def test_slightly_faster_cores_are_not_a_different_kind(make_root, server, speeds):
    files = with_speeds(server(cores=len(speeds)), "acpi_cppc/highest_perf", speeds)

    kinds, topology = kinds_of(make_root(files))

    assert set(kinds) == {"p"}
    assert not topology.hybrid


def test_amd_dense_cores_count_as_performance_cores(make_root, server):
    """Four Zen 5 and eight Zen 5c cores: twelve at the dense clock outperform four at 5.1 GHz."""
    speeds = [5157895] * 4 + [3289474] * 8
    files = with_speeds(server(cores=12), "cpufreq/cpuinfo_max_freq", speeds)
    files["proc/cpuinfo"] = files["proc/cpuinfo"].replace("GenuineIntel", "AuthenticAMD")

    kinds, topology = kinds_of(make_root(files))

    assert (kinds, topology.hybrid, topology.kinds_source) == ("p" * 12, False, "")


def test_a_source_with_a_missing_or_zero_speed_is_ignored(make_root, server):
    files = with_speeds(server(cores=4), "cpu_capacity", [1024, 1024, 0, 500])

    assert kinds_of(make_root(files))[0] == "pppp"


def test_two_sockets_are_not_hybrid(make_root, server):
    files = with_speeds(server(cores=4, sockets=2), "cpu_capacity", [1024, 1024, 500, 500])

    assert kinds_of(make_root(files))[0] == "pppp"


def uneven_smt(server, model="Intel(R) Core(TM) i7"):
    """Two cores with two threads each, then four cores with one."""
    files = server(cores=8)
    for cpu, siblings in enumerate(["0-1", "0-1", "2-3", "2-3"]):
        files[f"{CPU}/cpu{cpu}/topology/core_cpus_list"] = siblings
    files["proc/cpuinfo"] = files["proc/cpuinfo"].replace("Made up", model)
    return files


def test_smt_on_only_the_first_cores_is_an_intel_hybrid(make_root, server):
    kinds, topology = kinds_of(make_root(uneven_smt(server)))

    assert kinds == "ppeeee"
    assert topology.kinds_source.endswith("topology")


def test_smt_asymmetry_due_to_offline_siblings_is_not_hybrid(make_root, server):
    files = uneven_smt(server) | {f"{CPU}/present": "0-8\n"}

    assert kinds_of(make_root(files))[0] == "pppppp"


def test_smt_asymmetry_of_a_server_is_not_hybrid(make_root, server):
    files = uneven_smt(server, "Intel(R) Xeon(R) Gold 6132")

    assert kinds_of(make_root(files))[0] == "pppppp"


def test_cores_are_split_at_the_widest_gap():
    assert split_at_gap([250, 760, 1024], 1.2) == 760
    assert split_at_gap([100], 1.2) is None
    assert split_at_gap([100, 119], 1.2) is None
