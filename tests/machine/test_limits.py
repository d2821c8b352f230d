"""Affinity mask, isolated processors and the workers of a job on this host."""

from __future__ import annotations

import pytest

from nano_init.machine.local_workers import count_local_workers, parse_tasks_per_node
from nano_init.machine.probe import probe

ONLINE = {"sys/devices/system/cpu/online": "0-7\n"}


def limits_of(make_root, files, environ=None):
    machine = probe(make_root(ONLINE | files), environ or {})
    return machine.limits, machine.warnings


def status(line):
    return {"proc/self/status": f"Name:\tpython\n{line}\nMems_allowed_list:\t1\n"}


def test_recorded_mask_comes_from_proc_self_status(make_root):
    limits, _ = limits_of(make_root, status("Cpus_allowed_list:\t2-3,6"))

    assert limits.affinity == (2, 3, 6)
    assert limits.memory_nodes == (1,)


def test_recording_without_a_status_allows_all_online_processors(make_root):
    assert limits_of(make_root, {})[0].affinity == tuple(range(8))


def test_recording_without_a_status_is_limited_by_its_cpuset(make_root):
    files = {"proc/self/cgroup": "0::/a", "sys/fs/cgroup/a/cpuset.cpus.effective": "1-2"}

    limits, _ = limits_of(make_root, files)

    assert limits.affinity == limits.cpuset == (1, 2)


def test_the_cpuset_of_the_nearest_group_counts(make_root):
    files = status("Cpus_allowed_list:\t2") | {
        "proc/self/cgroup": "0::/a/b",
        "sys/fs/cgroup/a/b/cpuset.cpus": "\n",
        "sys/fs/cgroup/a/cpuset.cpus": "2-5",
        "sys/fs/cgroup/cpuset.cpus.effective": "0-7",
    }

    limits, _ = limits_of(make_root, files)

    assert (limits.affinity, limits.cpuset) == ((2,), (2, 3, 4, 5))


def test_mask_is_limited_to_online_processors(make_root):
    assert limits_of(make_root, status("Cpus_allowed_list:\t6-63"))[0].affinity == (6, 7)


@pytest.mark.parametrize("line", ["Cpus_allowed_list:\t64-65", "Cpus_allowed_list:\tx-y"])
def test_an_empty_or_invalid_mask_is_reported_and_ignored(make_root, line):
    limits, warnings = limits_of(make_root, status(line))

    assert limits.affinity == tuple(range(8))
    assert any("proc/self/status" in warning for warning in warnings)


def test_isolated_processors_come_from_the_kernels_list(make_root):
    files = {"sys/devices/system/cpu/isolated": "2-3,60\n", "proc/cmdline": "isolcpus=1"}

    assert limits_of(make_root, files)[0].isolated == (2, 3)


@pytest.mark.parametrize(
    ("cmdline", "isolated"),
    [
        ("quiet isolcpus=2-3 ro", (2, 3)),
        ("isolcpus=domain,managed_irq,4,6-7", (4, 6, 7)),
        ("isolcpus=", ()),
        ("quiet", ()),
    ],
)
def test_old_kernels_list_isolated_processors_on_their_command_line(make_root, cmdline, isolated):
    assert limits_of(make_root, {"proc/cmdline": cmdline})[0].isolated == isolated


@pytest.mark.parametrize(
    ("environ", "workers", "source"),
    [
        ({}, 1, ""),
        ({"LOCAL_WORLD_SIZE": "4"}, 4, "LOCAL_WORLD_SIZE"),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, 2, "OMPI_COMM_WORLD_LOCAL_SIZE"),
        ({"MPI_LOCALNRANKS": "8"}, 8, "MPI_LOCALNRANKS"),
        ({"MV2_COMM_WORLD_LOCAL_SIZE": "3"}, 3, "MV2_COMM_WORLD_LOCAL_SIZE"),
        ({"LOCAL_WORLD_SIZE": "2", "MPI_LOCALNRANKS": "8"}, 2, "LOCAL_WORLD_SIZE"),
        ({"SLURM_STEP_TASKS_PER_NODE": "4(x2),3"}, 4, "SLURM_STEP_TASKS_PER_NODE"),
        (
            {"SLURM_STEP_TASKS_PER_NODE": "4(x2),3", "SLURM_NODEID": "2"},
            3,
            "SLURM_STEP_TASKS_PER_NODE",
        ),
        ({"SLURM_TASKS_PER_NODE": "4", "SLURM_STEP_ID": "0"}, 4, "SLURM_TASKS_PER_NODE"),
        (
            {"SLURM_NTASKS_PER_NODE": "4", "SLURM_STEPID": "0", "SLURM_NODEID": "3"},
            4,
            "SLURM_NTASKS_PER_NODE",
        ),
        ({"SLURM_TASKS_PER_NODE": "4", "SLURM_LOCALID": "2"}, 4, "SLURM_TASKS_PER_NODE"),
        # A batch script is one process.
        ({"SLURM_TASKS_PER_NODE": "4", "SLURM_LOCALID": "0"}, 1, ""),
    ],
)
def test_the_innermost_launcher_sets_the_number_of_local_workers(environ, workers, source):
    assert count_local_workers(environ) == (workers, source, ())


@pytest.mark.parametrize("text", ["0", "-1", "x", "2.5", "99999999999", "00000000199999", "²"])
def test_an_invalid_number_of_workers_gives_a_warning(text):
    workers, source, (warning,) = count_local_workers({"LOCAL_WORLD_SIZE": text})

    assert (workers, source) == (1, "")
    assert "LOCAL_WORLD_SIZE" in warning


def test_a_slurm_task_list_without_this_node_gives_a_warning():
    environ = {"SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_NODEID": "5"}

    assert count_local_workers(environ)[0] == 1
    assert "SLURM_STEP_TASKS_PER_NODE" in count_local_workers(environ)[2][0]


@pytest.mark.parametrize(
    ("text", "tasks"),
    [
        ("2(x3),1", (2, 2, 2, 1)),
        ("7", (7,)),
        ("", ()),
        ("x", ()),
        ("2(x", ()),
        ("1(x99999999)", ()),
    ],
)
def test_slurm_tasks_per_node_are_expanded(text, tasks):
    assert parse_tasks_per_node(text) == tasks


def test_a_warning_about_workers_reaches_the_machine(make_root):
    _, warnings = limits_of(make_root, {}, {"LOCAL_WORLD_SIZE": "many"})

    assert any("LOCAL_WORLD_SIZE='many'" in warning for warning in warnings)
