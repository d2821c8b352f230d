"""On the test machine, the answers agree with the system's tools."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nano_init
from nano_init.machine.cpulist import parse_cpu_list
from nano_init.machine.probe import probe

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tools are Linux's")

PROBE = f"""
import sys
sys.path.insert(0, {str(Path(nano_init.__file__).parents[1])!r})
from nano_init.machine.probe import probe
from nano_init.plan.threads import count_threads
machine = probe("/", {{}})
print(len(machine.limits.affinity), machine.limits.cpu_quota, count_threads(machine).usable_cores)
"""


def run(*command):
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"}
    )
    return done.stdout


def need(tool):
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")


@pytest.fixture
def lscpu():
    need("lscpu")
    cpus = json.loads(run("lscpu", "-J", "-e=CPU,CORE,SOCKET,NODE,ONLINE"))["cpus"]
    return [cpu for cpu in cpus if cpu.get("online") in (True, "yes", None)]


def test_threads_cores_sockets_and_nodes_agree_with_lscpu(lscpu):
    topology = probe("/", {}).topology

    assert list(topology.online) == sorted(int(cpu["cpu"]) for cpu in lscpu)
    assert len(topology.cores) == len({(cpu["socket"], cpu["core"]) for cpu in lscpu})
    assert topology.sockets == len({cpu["socket"] for cpu in lscpu})
    nodes = {int(cpu["node"]) for cpu in lscpu if str(cpu.get("node", "-")).isdigit()}
    assert {node.id for node in topology.nodes if node.cpus} == (nodes or {0})


def test_vendor_and_model_agree_with_lscpu():
    need("lscpu")
    said = json.loads(run("lscpu", "-J"))["lscpu"]
    fields = {}
    while said:
        entry = said.pop()
        fields[entry["field"].rstrip(":")] = entry["data"]
        said += entry.get("children", [])

    isa = probe("/", {}).isa

    assert isa.arch == fields["Architecture"]
    if isa.arch == "x86_64":
        assert isa.vendor == fields["Vendor ID"]
        assert isa.model == fields["Model name"]
        assert isa.flags == set(fields["Flags"].split())


def test_affinity_agrees_with_taskset():
    need("taskset")
    said = run("taskset", "-pc", str(os.getpid())).rpartition(":")[2]

    assert probe("/", {}).limits.affinity == parse_cpu_list(said)


def test_affinity_follows_taskset():
    need("taskset")
    first = str(min(os.sched_getaffinity(0)))

    threads, _, usable = run("taskset", "-c", first, sys.executable, "-c", PROBE).split()

    assert (threads, usable) == ("1", "1")


@pytest.fixture
def quota_group():
    """Create a cgroup with a quota of 1.5 processors; return its cgroup.procs."""
    if os.geteuid() != 0:
        pytest.skip("only root may make a cgroup")
    name = f"nano-init-test-{os.getpid()}"
    for group, write in (
        (Path("/sys/fs/cgroup/cpu", name), _write_quota_v1),
        (Path("/sys/fs/cgroup/cpu,cpuacct", name), _write_quota_v1),
        (Path("/sys/fs/cgroup", name), _write_quota_v2),
    ):
        if not (group.parent / "cgroup.procs").exists():
            continue
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            write(group)
            yield group / "cgroup.procs"
            return
        except OSError as error:
            reason = f"{group} takes no quota: {error}"
        finally:
            group.rmdir()
        pytest.skip(reason)
    pytest.skip("no cgroup hierarchy for processors can be written to")


def _write_quota_v1(group):
    (group / "cpu.cfs_period_us").write_text("100000")
    (group / "cpu.cfs_quota_us").write_text("150000")


def _write_quota_v2(group):
    (group / "cpu.max").write_text("150000 100000")


def test_quota_of_a_real_cgroup_is_found_and_bounds_the_cores(quota_group):
    enter = f'echo $$ > {quota_group} && exec "$0" -c "$1"'

    _, quota, usable = run("sh", "-c", enter, sys.executable, PROBE).split()

    assert (quota, usable) == ("1.5", "1")
