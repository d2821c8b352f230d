"""A process reads its rank and job from the variables of Slurm, MPI and TF_CONFIG."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nano_init.errors import UsageError
from nano_init.machine.cluster import Cluster, Task, parse_hostlist, read_cluster, read_task

SLURM = {
    "SLURM_JOB_ID": "1234",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "3",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_STEP_NODELIST": "node[07-08]",
}


def test_slurm_gives_rank_host_and_a_port_that_is_equal_for_all_tasks():
    task = read_task(SLURM)

    assert task == Task(3, 4, 1, 2, "SLURM_PROCID", "node07", 20000 + (1234 * 7) % 10000)
    assert read_task({**SLURM, "SLURM_PROCID": "0"}).port == task.port


def test_a_batch_script_is_not_a_task():
    assert read_task({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "1"}) is None


def test_mpi_on_one_host_gives_ranks_and_the_address():
    names = ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")
    environ = dict(zip([f"OMPI_COMM_WORLD_{n}" for n in names], "1212", strict=True))

    assert read_task(environ) == Task(1, 2, 1, 2, "OMPI_COMM_WORLD_RANK", "127.0.0.1")


def test_mpi_on_several_hosts_gives_no_address():
    environ = {"PMI_RANK": "5", "PMI_SIZE": "8", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "4"}

    assert read_task(environ) == Task(5, 8, 1, 4, "PMI_RANK")


def test_a_single_task_is_not_a_job():
    assert read_task({"PMI_RANK": "0", "PMI_SIZE": "1"}) is None
    assert read_task({"PMI_RANK": "x", "PMI_SIZE": "2"}) is None


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("", ()),
        ("a", ("a",)),
        ("a[01-03,7],b", ("a01", "a02", "a03", "a7", "b")),
        ("r[1-2]n[1-2]", ("r1n1", "r1n2", "r2n1", "r2n2")),
        ("gpu-1,gpu-2", ("gpu-1", "gpu-2")),
        ("n[9-11].lan", ("n9.lan", "n10.lan", "n11.lan")),
    ],
)
def test_a_slurm_host_list_is_expanded(text, hosts):
    assert parse_hostlist(text) == hosts


@pytest.mark.parametrize("text", ["a[1", "a[x]", "a[3-1]", "a[]", "a[1-]"])
def test_an_invalid_host_list_is_reported(text):
    with pytest.raises(UsageError, match="not a host list"):
        parse_hostlist(text)


@given(st.text(alphabet="ab[]-,019", max_size=12))
def test_any_text_is_parsed_or_rejected(text):
    try:
        hosts = parse_hostlist(text)
    except UsageError:
        return
    assert all(host and "," not in host for host in hosts)


def config(kind, index, **cluster):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})}


def test_a_given_cluster_of_workers_is_read_with_its_chief_first():
    environ = config("worker", 1, chief=["c:1"], worker=["a:1", "b:1"])

    cluster = read_cluster(environ)
    assert cluster == Cluster(("c:1", "a:1", "b:1"), 2, environ["TF_CONFIG"])


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"TF_CONFIG": ""},
        {"TF_CONFIG": "{}"},
        config("worker", 0, worker=["a:1"]),
        config("worker", 0, worker=["a:1", "b:1"], ps=["p:1"]),
        config("evaluator", 0, worker=["a:1", "b:1"], evaluator=["e:1"]),
    ],
)
def test_a_tf_config_that_is_not_a_worker_cluster_is_ignored(environ):
    assert read_cluster(environ) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"cluster": 3}', '{"task": {"index": "x"}}'])
def test_a_damaged_tf_config_is_reported(text):
    with pytest.raises(UsageError, match="TF_CONFIG"):
        read_cluster({"TF_CONFIG": text})


def test_a_task_outside_the_cluster_is_reported():
    with pytest.raises(UsageError, match="task 5 of 2 workers"):
        read_cluster(config("worker", 5, worker=["a:1", "b:1"]))
