"""The job's secret where the user gives none: by a channel of the scheduler, if it has a safe one.

Open MPI has none that needs no MPI library: the "unique key" in its tasks' environment is made
from the number of the job under some schedulers, and so is no secret.
"""

from __future__ import annotations

import secrets

from nano_init.launch.job_secret import JobSecret
from nano_init.launch.munge import has_munge
from nano_init.launch.pmi import find_pmi, share_by_pmi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["find_scheduler_secret"]


def find_scheduler_secret(environ: Mapping[str, str], rank: int, seconds: float) -> JobSecret:
    """Return the secret that a scheduler hands on among the job's tasks, or of kind "".

    Args:
        environ: this process's environment.
        rank: this task's number.
        seconds: how long to wait for the other tasks.

    Raises:
        LaunchError: the scheduler does not do what it should.
    """
    key = secrets.token_bytes(32)
    descriptor = find_pmi(environ)
    if descriptor >= 0:
        shared = share_by_pmi(descriptor, rank, key, seconds)
        return JobSecret("secret", shared, "PMI")
    if "SLURM_JOB_ID" in environ and has_munge(environ):
        return JobSecret("munge", key if rank == 0 else b"", "MUNGE")
    return JobSecret()
