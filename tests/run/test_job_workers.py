"""This host's part of the job follows from the options, or else from the outer launcher."""

from __future__ import annotations

import click
import pytest

from nano_init.cli.run import _split_module
from nano_init.cli.run_options import nano_run as nano_run_command
from nano_init.errors import UsageError
from nano_init.machine.cluster import Task
from nano_init.run.job_workers import HostPart, find_host_part
from nano_init.run.option_table import JOB_VARIABLES
from nano_init.run.request import JobRequest

MPI = Task(5, 8, 1, 4, "PMI_RANK")


def test_a_single_host_needs_no_options():
    assert find_host_part(JobRequest(workers="2"), None) == HostPart()


def test_options_describe_several_hosts():
    job = JobRequest(hosts=4, host_rank=2, master_addr="h", master_port=77)

    assert find_host_part(job, None) == HostPart(2, 4, "h", 77)


def test_a_task_is_a_host_with_one_worker_and_its_share_of_the_cores():
    part = find_host_part(JobRequest(workers="1", master_addr="h"), MPI)

    assert part == HostPart(5, 8, "h", 29400, (1, 4), is_task=True)


def test_options_take_precedence_over_the_outer_launcher():
    job = JobRequest(hosts=2, host_rank=1, master_addr="h")

    assert find_host_part(job, MPI) == HostPart(1, 2, "h", 29400)


@pytest.mark.parametrize(
    ("job", "task", "sentence"),
    [
        (JobRequest(workers="1"), MPI, "give --master-addr"),
        (JobRequest(workers="3", master_addr="h"), MPI, "within 4 tasks on this host"),
        (JobRequest(hosts=8), None, "needs --node-rank"),
        (JobRequest(workers="2", master_addr="h"), None, "need --nnodes"),
        (JobRequest(host_rank=1), None, "need --nnodes"),
        (JobRequest(hosts=8, host_rank=8), None, "is not below --nnodes 8"),
        (JobRequest(hosts=8, host_rank=0), None, "needs --master-addr"),
    ],
)
def test_missing_or_inconsistent_options_are_reported(job, task, sentence):
    with pytest.raises(UsageError, match=sentence):
        find_host_part(job, task)


def test_job_options_have_environment_variables():
    assert "NANO_RUN_NPROC_PER_NODE" in JOB_VARIABLES
    assert all(name.startswith("NANO_RUN_") and name.isupper() for name in JOB_VARIABLES)


def test_a_module_is_found_after_every_option_that_takes_a_value():
    valued = [
        name
        for parameter in nano_run_command.params
        if isinstance(parameter, click.Option) and not parameter.is_flag
        for name in parameter.opts
        # Its file name can only follow "=".
        if name.startswith("--") and name != "--report"
    ]

    assert len(valued) > 10
    for name in valued:
        assert _split_module([name, "2", "-mpkg"]) == [name, "2", "-m", "pkg"]
