"""Take this process's place in a cluster that somebody else has started, by its TF_CONFIG."""

from __future__ import annotations

from nano_init.launch.command import Command
from nano_init.machine.cluster import read_cluster
from nano_init.protocol.membership import MEMBERSHIP_VARIABLE, Membership, format_membership

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nano_init.cli.job_options import JobOptions

__all__ = ["join_cluster"]

# A nano-run that the worker starts finds the same TF_CONFIG, and is no worker.
_JOINED = "NANO_INIT_JOINED"


def join_cluster(command: Command, environ: Mapping[str, str], job: JobOptions | None) -> Command:
    """Return a command as a worker of the cluster that TF_CONFIG describes.

    Nothing is agreed on beforehand: random numbers start from what all workers can read, the
    cluster's addresses.

    Args:
        command: the command.
        environ: the environment; without a cluster of workers in it the command stays.
        job: the options of a job, if there are any.

    Raises:
        UsageError: TF_CONFIG is damaged.
    """
    cluster = None if _JOINED in environ else read_cluster(environ)
    if cluster is None:
        return command
    from zlib import crc32

    seed = crc32(",".join(cluster.addresses).encode())
    membership = Membership(
        index=cluster.index,
        workers=len(cluster.addresses),
        seed=seed,
        start_timeout=600 if job is None else job.start_timeout,
        compress=job is not None and job.compress,
    )
    variables = {
        **command.variables,
        MEMBERSHIP_VARIABLE: format_membership(membership),
        _JOINED: "1",
    }
    if environ.get("PYTHONHASHSEED", "random") == "random":
        variables["PYTHONHASHSEED"] = str(seed)
    return Command(command.argv, variables)
