"""Take this process's place in a cluster that somebody else has started, by its TF_CONFIG."""

from __future__ import annotations

from nano_init.frozen import replace
from nano_init.machine.cluster import read_cluster
from nano_init.protocol.membership import Membership, format_membership
from nano_init.protocol.variables import JOINED_VARIABLE, MEMBERSHIP_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from nano_init.launch.command import Command
    from nano_init.run.request import JobRequest

__all__ = ["join_cluster"]


def join_cluster(command: Command, environ: Mapping[str, str], job: JobRequest) -> Command:
    """Return a command as a worker of the cluster that TF_CONFIG describes.

    Nothing is agreed on beforehand: random numbers start from what all workers can read, the
    cluster's addresses.

    Args:
        command: the command.
        environ: the environment; without a cluster of workers in it the command stays.
        job: the options for the job.

    Raises:
        UsageError: TF_CONFIG is damaged.
    """
    # A nano-run that the worker starts finds the same TF_CONFIG, and is no worker.
    cluster = None if JOINED_VARIABLE in environ else read_cluster(environ)
    if cluster is None:
        return command
    from zlib import crc32

    seed = crc32(",".join(cluster.addresses).encode())
    membership = Membership(
        index=cluster.index,
        workers=len(cluster.addresses),
        seed=seed,
        start_timeout=job.start_timeout,
        compress=job.compress,
    )
    variables = {
        **command.variables,
        MEMBERSHIP_VARIABLE: format_membership(membership),
        JOINED_VARIABLE: "1",
    }
    if environ.get("PYTHONHASHSEED", "random") == "random":
        variables["PYTHONHASHSEED"] = str(seed)
    return replace(command, variables=variables)
