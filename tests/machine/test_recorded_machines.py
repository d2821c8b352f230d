"""Recordings of real machines by others give the known answers."""

from __future__ import annotations

import json
import tarfile

import pytest

from nano_init.machine.cpulist import format_cpu_list, parse_cpu_list
from nano_init.machine.probe import probe
from nano_init.plan.placement import place_workers
from nano_init.plan.threads import count_threads

# Only the names are listed here, so that each machine is a separate test.
SYSFS = [
    "128arm-2pa2n8cluster4co",
    "16em64t-4s2c2t-offlines",
    "20em64t-hybrid-1p6c2t+2ca4co1t",
    "32intel64-2p8co2t+8ve",
    "48amd64-4pa2n6c-sparse",
    "8em64t-2s2ca2c",
    "nvidia-dgx-gb10",
    "offline-cpu0-node0",
]


@pytest.fixture(scope="session")
def expected(machines):
    return json.loads((machines / "expected.json").read_text())


@pytest.fixture(scope="session")
def recorded(machines, expected, tmp_path_factory):
    """Return a function that unpacks a machine and returns its root and expected answers."""
    folder = tmp_path_factory.mktemp("machines")

    def unpack(name):
        if name not in expected["sysfs"]:
            pytest.skip(f"{name} is not among the recorded machines")
        answers = expected["sysfs"][name]
        if not (folder / answers["root"]).exists():
            with tarfile.open(machines / "sysfs" / f"{name}.tar.bz2") as archive:
                for member in archive:
                    if member.isfile() and is_of_interest(member.name):
                        target = folder / member.name
                        target.parent.mkdir(parents=True, exist_ok=True)
                        target.write_bytes(archive.extractfile(member).read())
        return str(folder / answers["root"]), answers

    return unpack


def is_of_interest(path):
    """Return whether a file of a recording is about processors; thousands of others are not."""
    return "/proc/" in path or "/sys/devices/system/" in path or "/sys/devices/cpu_" in path


def cpus_of(machine, *kinds):
    return tuple(
        sorted(cpu for core in machine.topology.cores if core.kind in kinds for cpu in core.cpus)
    )


@pytest.mark.parametrize("name", SYSFS)
def test_sysfs_machine_has_the_expected_counts(recorded, name):
    root, answers = recorded(name)

    machine = probe(root, {})

    topology = machine.topology
    assert len(topology.online) == answers["threads"]
    assert len(topology.cores) == answers["cores"]
    assert topology.sockets == answers["sockets"]
    assert sum(1 for node in topology.nodes if node.cpus) == answers["numa_nodes"]
    assert machine.warnings == ()
    assert topology.hybrid == ("efficiency_cpus" in answers)
    if topology.hybrid:
        fast = parse_cpu_list(answers["performance_cpus"])
        assert cpus_of(machine, "performance") == fast
        slow = parse_cpu_list(answers["efficiency_cpus"])
        assert cpus_of(machine, "efficiency", "low-power") == slow


@pytest.mark.parametrize("name", SYSFS)
def test_sysfs_machine_trains_on_its_performance_cores(recorded, name):
    machine = probe(recorded(name)[0], {})

    fast = [core for core in machine.topology.cores if core.kind == "performance"]
    assert count_threads(machine).usable_cores == len(fast)


def test_every_recorded_machine_is_tested(expected):
    assert set(expected["sysfs"]) <= set(SYSFS)


def test_cpuinfo_machines_have_the_expected_bf16_unit(machines, expected, make_root):
    wrong = {}
    for name, answers in expected["cpuinfo"].items():
        text = (machines / "cpuinfo" / f"{name}.txt").read_text()
        isa = probe(make_root({"proc/cpuinfo": text}), {}).isa
        got = (isa.bf16, "avx512f" in isa.flags)
        if got != (answers["bf16"], answers["avx512f"]):
            wrong[name] = got

    assert wrong == {}


@pytest.mark.parametrize(
    ("name", "arch", "vendor", "model", "level"),
    [
        ("amazon-neoverse_v1", "aarch64", "Arm", "Neoverse-V1", None),
        ("asahi-m2", "aarch64", "Apple", "M2", None),
        ("rocky8-a64fx", "aarch64", "Fujitsu", "A64FX", None),
        ("centos7-thunderx2", "aarch64", "Cavium", "ThunderX2", None),
        ("ubuntu22.04-ampere1", "aarch64", "Ampere", "Ampere-1", None),
        ("unknown-power10", "ppc64le", "IBM", "POWER10", None),
        ("sifive-u74mc", "riscv64", "sifive", "u74-mc", None),
        ("rhel7-haswell", "x86_64", "GenuineIntel", None, "AVX2"),
        ("ubuntu26.04-arrowlake_s", "x86_64", "GenuineIntel", None, "AVX2_VNNI_2"),
        ("centos7-cascadelake", "x86_64", "GenuineIntel", None, "AVX512_CORE_VNNI"),
        ("rocky9-zen5", "x86_64", "AuthenticAMD", None, "AVX512_CORE_BF16"),
        ("unknown-sapphirerapids", "x86_64", "GenuineIntel", None, "AVX512_CORE_AMX"),
    ],
)
def test_cpuinfo_machine_has_the_expected_names_and_level(
    machines, make_root, name, arch, vendor, model, level
):
    text = (machines / "cpuinfo" / f"{name}.txt").read_text()

    isa = probe(make_root({"proc/cpuinfo": text}), {}).isa

    assert (isa.arch, isa.vendor, isa.level) == (arch, vendor, level)
    assert model in (None, isa.model)


# Determined manually from the node and sibling lists of each recording.
PLACES = {
    "128arm-2pa2n8cluster4co": [("0-31", (0,)), ("32-63", (1,)), ("64-95", (2,)), ("96-127", (3,))],
    "32intel64-2p8co2t+8ve": [("0-7,16-23", (0,)), ("8-15,24-31", (1,))],
    "48amd64-4pa2n6c-sparse": [
        ("0-5", (0,)), ("6-11", (1,)), ("12-17", (2,)), ("18-23", (33,)),
        ("24-29", (34,)), ("30-35", (45,)), ("36-41", (72,)), ("42-47", (73,)),
    ],
    "offline-cpu0-node0": [("4,6,8,10,12,14,16,18,20", ()), ("5,7,9,11,13,15,17,19", ())],
    "16em64t-4s2c2t-offlines": [("0-1,3-4,6-12,15", ())],
    "8em64t-2s2ca2c": [("0-7", ())],
}  # fmt: skip
REASONS = {
    "128arm-2pa2n8cluster4co": "4 workers: one per NUMA node",
    "32intel64-2p8co2t+8ve": "2 workers: one per NUMA node",
    "48amd64-4pa2n6c-sparse": "8 workers: one per NUMA node",
    "offline-cpu0-node0": "2 workers: one per NUMA node",
    "16em64t-4s2c2t-offlines": "1 worker: the smallest of the 4 last-level caches serves 1 core;",
    "8em64t-2s2ca2c": "1 worker: the smallest of the 4 last-level caches serves 2 cores;",
}


@pytest.mark.parametrize("name", PLACES)
def test_workers_on_servers_with_several_sockets_match_a_manual_placement(recorded, name):
    root, _ = recorded(name)
    placement = place_workers(probe(root, {}), None)

    places = [(format_cpu_list(place.cpus), place.nodes) for place in placement.places]
    assert places == PLACES[name]
    assert placement.reason.startswith(REASONS[name])
