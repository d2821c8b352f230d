"""The job's secret if the user gives none: through the scheduler, if it has a safe channel.

Open MPI has no such channel without an MPI library. The "unique key" in its tasks' environment is
derived from the job's number under some schedulers, so it is not a secret.
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
    """Return the secret that the scheduler distributes to the job's tasks, or one of kind "".

    Args:
        environ: this process's environment.
        rank: this task's rank.
        seconds: how long to wait for the other tasks.

    Raises:
        LaunchError: the scheduler's channel fails.
    """
    key = secrets.token_bytes(32)
    descriptor = find_pmi(environ)
    if descriptor >= 0:
        shared = share_by_pmi(descriptor, rank, key, seconds)
        return JobSecret("secret", shared, "PMI")
    if "SLURM_JOB_ID" in environ and has_munge(environ):
        return JobSecret("munge", key if rank == 0 else b"", "MUNGE")
    return JobSecret()
