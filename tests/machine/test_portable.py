"""On other systems, sysctl or psutil and py-cpuinfo are read, and failures are reported."""

from __future__ import annotations

from nano_init.machine.portable import parse_sysctl, probe_macos, probe_others

M3 = """\
machdep.cpu.brand_string: Apple M3 Pro
hw.packages: 1
hw.physicalcpu: 12
hw.logicalcpu: 12
hw.nperflevels: 2
hw.perflevel0.physicalcpu: 6
hw.perflevel1.physicalcpu: 6
hw.optional.arm.FEAT_BF16: 1
hw.optional.arm.FEAT_I8MM: 1
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_SME: 0
"""
INTEL_MAC = """\
machdep.cpu.brand_string: Intel(R) Core(TM) i9-9980HK CPU @ 2.40GHz
machdep.cpu.vendor: GenuineIntel
machdep.cpu.features: FPU SSE4.1 SSE4.2 AVX1.0
machdep.cpu.leaf7_features: AVX2 BMI1
hw.packages: 1
hw.physicalcpu: 8
hw.logicalcpu: 16
"""


def test_apple_silicon_has_performance_and_efficiency_cores_and_its_flags():
    machine, said = probe_macos({}, lambda command: M3, "arm64")

    assert [core.kind for core in machine.topology.cores] == ["performance"] * 6 + [
        "efficiency"
    ] * 6
    assert machine.topology.hybrid
    assert machine.isa.flags == {"bf16", "i8mm", "asimddp"}
    assert (machine.isa.vendor, machine.isa.model) == ("Apple", "Apple M3 Pro")
    assert (machine.isa.level, machine.isa.bf16) == (None, "arm")
    assert said["hw.physicalcpu"] == "12"


def test_the_apple_m1_has_no_bf16():
    text = M3.replace("FEAT_BF16: 1", "FEAT_BF16: 0").replace("M3 Pro", "M1")

    assert probe_macos({}, lambda command: text, "arm64")[0].isa.bf16 is None


def test_the_architecture_under_rosetta_is_arm64():
    assert probe_macos({}, lambda command: M3, "x86_64")[0].isa.arch == "arm64"


def test_an_intel_mac_has_siblings_and_an_isa_level():
    machine, _ = probe_macos({}, lambda command: INTEL_MAC, "x86_64")

    assert len(machine.topology.cores) == 8
    assert machine.topology.cores[1].cpus == (2, 3)
    assert machine.isa.level == "AVX2"
    assert machine.isa.vendor == "GenuineIntel"


def test_sysctl_is_called_once():
    commands = []
    probe_macos({}, lambda command: commands.append(command) or "", "arm64")

    assert len(commands) == 1
    assert commands[0][0].endswith("sysctl")


def test_missing_sysctl_is_reported_and_at_least_one_core_remains():
    def fail(command):
        raise FileNotFoundError(2, "No such file", command[0])

    machine, _ = probe_macos({}, fail, "arm64")

    assert len(machine.topology.cores) >= 1
    assert "sysctl is ignored" in machine.warnings[0]


def test_on_other_systems_psutil_and_cpuinfo_give_the_answers():
    info = {
        "arch": "X86_64",
        "vendor_id_raw": "GenuineIntel",
        "brand_raw": "Some Xeon",
        "flags": ["sse4_1", "avx", "avx2"],
    }

    machine, said = probe_others({"LOCAL_WORLD_SIZE": "2"}, lambda: (4, 8, [0, 1]), lambda: info)

    assert [core.cpus for core in machine.topology.cores] == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert machine.limits.affinity == (0, 1)
    assert machine.limits.local_workers == 2
    assert (machine.isa.level, machine.isa.model) == ("AVX2", "Some Xeon")
    assert "4 cores" in (said["psutil"] or "")


def test_missing_libraries_are_reported_and_the_probe_still_answers():
    def fail():
        raise ImportError("no such module")

    machine, _ = probe_others({}, fail, fail)

    assert machine.limits.affinity == machine.topology.online
    assert len(machine.warnings) == 2


def test_sysctl_output_is_parsed_by_name():
    assert parse_sysctl("a.b: 1\nc: x: y\nbroken\n") == {"a.b": "1", "c": "x: y"}
