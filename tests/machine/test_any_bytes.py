"""The probe returns an answer for any file contents."""

from __future__ import annotations

import os
import tempfile

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nano_init.machine.probe import probe
from nano_init.plan.threads import count_threads, thread_warnings

CPU = "sys/devices/system/cpu"
PATHS = [
    "proc/cpuinfo",
    "proc/self/status",
    "proc/self/cgroup",
    "proc/self/mountinfo",
    "proc/meminfo",
    "proc/cmdline",
    "proc/stat",
    "proc/sys/kernel/arch",
    "nano_init/xcomp_supp",
    f"{CPU}/online",
    f"{CPU}/present",
    f"{CPU}/isolated",
    "sys/devices/cpu_core/cpus",
    "sys/devices/cpu_atom/cpus",
    "sys/devices/system/node/online",
    "sys/devices/system/node/has_memory",
    "sys/devices/system/node/node0/cpulist",
    "sys/devices/system/node/node0/cpumap",
    "sys/devices/system/node/node0/distance",
    *(
        f"{CPU}/cpu{cpu}/{name}"
        for cpu in (0, 1)
        for name in (
            "online",
            "cpu_capacity",
            "acpi_cppc/highest_perf",
            "cpufreq/cpuinfo_max_freq",
            "cache/index0/level",
            "cache/index0/shared_cpu_list",
            "cache/index0/shared_cpu_map",
            "topology/core_cpus_list",
            "topology/thread_siblings",
            "topology/physical_package_id",
            "topology/package_cpus_list",
            "topology/die_id",
            "topology/cluster_id",
        )
    ),
    "sys/fs/cgroup/cpu.max",
    "sys/fs/cgroup/memory.max",
    "sys/fs/cgroup/cpuset.cpus",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us",
]
# Fragments of real contents, so that damage reaches the inner parsers too.
PIECES = st.sampled_from(
    [
        b"0-3",
        b"0-1,3",
        b"1",
        b"-1",
        b"0",
        b"max 100000",
        b"50000 0",
        b"250000 100000",
        b"9223372036854771712",
        b"99999999999999999999999",
        b"00000000,0000000f",
        b"processor\t: 0\nflags\t: avx amx_tile\n\n",
        b"processor: 1\nFeatures: bf16\nphysical id: 3\n",
        b"Cpus_allowed_list:\t0-2\n",
        b"MemTotal: 1000 kB\n",
        b"0::/a/../b\n",
        b"1:cpu,memory:/x\n",
        b"1 2 3:4 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        b"1 2 3:4 /x\\040 /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n",
        b"1 2 3:4 / /\0 rw - cgroup2 cgroup2 rw\n",
        b"isolcpus=domain,1-2",
        b"errno 1",
        b"errno x",
        b"cpu0 1\ncpu7 2\n",
    ]
)
CONTENTS = st.one_of(
    st.binary(max_size=60), st.lists(st.one_of(PIECES, st.binary(max_size=6))).map(b"".join)
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    files=st.dictionaries(st.sampled_from(PATHS), CONTENTS, min_size=1, max_size=len(PATHS)),
    workers=st.text(st.characters(min_codepoint=32, max_codepoint=500), max_size=6),
)
def test_any_file_contents_give_between_one_and_all_online_cores(files, workers):
    with tempfile.TemporaryDirectory() as root:
        os.mkdir(f"{root}/proc")
        for path, content in files.items():
            os.makedirs(os.path.dirname(f"{root}/{path}"), exist_ok=True)
            with open(f"{root}/{path}", "wb") as file:
                file.write(content)

        machine = probe(root, {"LOCAL_WORLD_SIZE": workers, "KMP_AFFINITY": workers})

    online = machine.topology.online
    count = count_threads(machine)
    assert 1 <= count.usable_cores <= len(online)
    assert set(machine.limits.affinity) <= set(online)
    assert machine.limits.affinity
    assert sorted(cpu for core in machine.topology.cores for cpu in core.cpus) == list(online)
    assert machine.topology.sockets >= 1
    assert all("\n" not in warning for warning in machine.warnings)
    assert count.reason.startswith(f"{count.usable_cores}: ")
    thread_warnings(machine, {"KMP_AFFINITY": workers})
