"""An explanation lists every source of a fact and how its value is derived."""

from __future__ import annotations

import re

import pytest

from nano_init.errors import UsageError
from nano_init.machine.local_workers import WORKER_VARIABLES
from nano_init.machine.probe import probe_with_log
from nano_init.plan.explain import FACTS, explain

CPU = "sys/devices/system/cpu"
# Parts of the topology that no fact shows: dies, clusters and caches.
_NO_FACT = tuple(
    f"{CPU}/cpu{n}/{name}" for n in range(40) for name in ("topology/die", "topology/clus", "cache")
)


@pytest.fixture
def probed(tmp_path):
    files = {
        "proc/cpuinfo": (
            "processor: 0\nvendor_id: X\nmodel name: Y\n"
            "flags: lm fpu sse4_1 ssse3 smep sme avx avx512_bf16 amx_tile\n"
        ),
        "proc/self/status": "Name: python\nCpus_allowed_list: 0-1\n",
        "proc/self/cgroup": "0::/job",
        "proc/self/mountinfo": (
            "1 2 3:4 / /proc rw - proc proc rw\n31 2 0:2 / /sys/fs/cgroup rw - cgroup2 c rw\n"
        ),
        "sys/fs/cgroup/job/cpu.max": "150000 100000",
        f"{CPU}/online": "0-39",
        **{f"{CPU}/cpu{n}/topology/core_cpus_list": f"{n}" for n in range(40)},
        **{f"{CPU}/cpu{n}/cpu_capacity": "1024" for n in range(40)},
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return probe_with_log(str(tmp_path), {})


def test_usable_cores_list_every_source_and_the_bound(probed):
    explanation = explain("usable_cores", *probed, {"LOCAL_WORLD_SIZE": "2"}, cap=4)

    said = dict(explanation.said)
    assert explanation.value == "1"
    assert said["/sys/devices/system/cpu/online"] == "0-39"
    assert said["/proc/self/status"] == "Cpus_allowed_list: 0-1"
    assert said["/sys/fs/cgroup/job/cpu.max"] == "150000 100000"
    assert said["/sys/fs/cgroup/cpu.max"] == "absent"
    assert said["/proc/self/mountinfo"] == "31 2 0:2 / /sys/fs/cgroup rw - cgroup2 c rw"
    assert said["LOCAL_WORLD_SIZE"] == "2"
    assert said["--threads"] == "4"
    assert "quota 1.5 binds" in explanation.conclusion


def test_only_cgroups_that_can_limit_are_shown(tmp_path):
    cgroup = "9:name=systemd:/s\n8:pids:/p\n2:cpuacct:/a\n3:cpu,cpuacct:/job\n0::/u"
    mounts = "".join(
        f"{n} 2 0:{n} / /sys/fs/cgroup/{name} rw,relatime - cgroup cgroup rw,{name}\n"
        for n, name in enumerate(["pids", "cpuacct", "name=systemd", "cpu,cpuacct"])
    )
    mounts += "31 2 0:2 / /sys/fs/cgroup/unified rw - cgroup2 c rw"
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(cgroup)
    (tmp_path / "proc/self/mountinfo").write_text(mounts)

    said = dict(explain("cpu_quota", *probe_with_log(str(tmp_path), {}), {}).said)

    assert said["/proc/self/cgroup"] == "3:cpu,cpuacct:/job; 0::/u"
    assert said["/proc/self/mountinfo"] == (
        "3 2 0:3 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct; "
        "31 2 0:2 / /sys/fs/cgroup/unified rw - cgroup2 c rw"
    )


def test_equal_answers_of_many_processors_are_one_line(probed):
    said = dict(explain("performance_cpus", *probed, {}).said)

    assert said["/sys/devices/system/cpu/cpu{0-39}/cpu_capacity"] == "1024"


def test_many_different_answers_are_one_line(probed):
    said = dict(explain("cores", *probed, {}).said)

    assert said["/sys/devices/system/cpu/cpu{0-39}/topology/core_cpus_list"] == (
        "40 different answers: 0 to 39"
    )


def test_only_flags_that_determine_the_level_are_shown(probed):
    """So not smep and sme (x86: supervisor mode and memory encryption), nor ssse3."""
    said = dict(explain("isa_level", *probed, {}).said)

    assert said["/proc/cpuinfo"] == "sse4_1 avx avx512_bf16 amx_tile"


def test_every_file_that_a_probe_reads_is_a_source_of_a_fact(probed):
    _, log = probed
    explained = {source for name in FACTS for source, _ in explain(name, *probed, {}).said}

    unexplained = [
        path
        for path in log
        if re.sub(r"/cpu\d+/", "/cpu{0-39}/", f"/{path}") not in explained
        and re.sub(r"/cpu\d+/", "/cpu0/", f"/{path}") not in explained
        and not path.startswith(_NO_FACT)
    ]
    assert unexplained == []


def test_every_variable_that_counts_workers_is_listed(probed):
    environ = dict.fromkeys(WORKER_VARIABLES, "1")

    said = explain("local_workers", *probed, environ).said

    assert {source for source, _ in said} == set(WORKER_VARIABLES)


@pytest.mark.parametrize("name", FACTS)
def test_every_fact_has_a_value_and_a_conclusion(probed, name):
    explanation = explain(name, *probed, {})

    assert explanation.name == name
    assert explanation.value
    assert explanation.conclusion
    assert all(source and isinstance(text, str) for source, text in explanation.said)


def test_a_thread_variable_is_explained_by_the_usable_cores(probed):
    assert explain("TF_NUM_INTRAOP_THREADS", *probed, {}).value == "1"


def test_an_unknown_fact_is_rejected_with_a_list_of_the_known_ones(probed):
    with pytest.raises(UsageError, match="'colour' cannot be explained; choose one of usable"):
        explain("colour", *probed, {})
