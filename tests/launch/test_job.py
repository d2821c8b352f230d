"""A job is restarted where another attempt may succeed, and ends where it cannot."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nano_init.errors import HostLostError, LaunchError
from nano_init.launch import job
from nano_init.launch.job import Job, run_job


def make_job(lines: list[str], max_restarts: int) -> Job:
    parts: dict[str, Any] = {
        "target": None,
        "placement": SimpleNamespace(places=(None,), is_exclusive=False),
        "prepare": None,
        "log_dir": "",
    }
    return Job(
        **parts,
        rank=0,
        hosts=2,
        master="127.0.0.1",
        port=29400,
        facts={},
        start_timeout=5,
        max_restarts=max_restarts,
        tee=False,
        say=lines.append,
    )


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The restart count of each attempt; a host is lost in the first two, the third one ends."""
    counts: list[int] = []

    def meet(host: Any, seconds: float) -> Any:
        del seconds
        counts.append(host.restarts)
        raise LaunchError("too late") if len(counts) > 2 else HostLostError("host 1 is lost")

    monkeypatch.setattr(job, "meet", meet)
    return counts


def test_a_host_that_is_lost_while_the_hosts_connect_restarts_the_job(attempts: list[int]) -> None:
    lines: list[str] = []
    with pytest.raises(LaunchError, match="too late"):
        run_job(make_job(lines, max_restarts=5))
    assert attempts == [0, 1, 2]
    assert lines[:2] == [
        "host 1 is lost",
        "restarting the job (1 of 5) once all hosts are there, for 5 s (--start-timeout)",
    ]


def test_the_last_restart_ends_the_job_with_exit_code_2(attempts: list[int]) -> None:
    lines: list[str] = []
    assert run_job(make_job(lines, max_restarts=1)) == 2
    assert (attempts, lines[-1]) == ([0, 1], "host 1 is lost")
