"""A worker's membership in its job, as a value and as text.

The launcher passes it in one variable, which the bootstrap removes from the environment before the
program runs: a Python process that the program starts is not a worker.
"""

from __future__ import annotations

from nano_init.errors import LaunchError
from nano_init.frozen import frozen
from nano_init.protocol.variables import MEMBERSHIP_VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Membership", "format_membership", "parse_membership"]


@frozen
class Membership:
    """One worker's place in its job.

    Args:
        index: the worker's index; 0 is the chief.
        workers: the number of workers.
        seed: the seed of unseeded random numbers, the same for all workers.
        status_fd: the descriptor for reports to the launcher; -1 without one.
        start_timeout: seconds to wait for the other workers.
        compress: whether gradients are sent between hosts in bfloat16.
        scratch: a folder for files of which only the chief's copy is kept; "" for the chief.
        memory_fd: the descriptor of the shared memory of this host's workers; -1 without one.
        local: the worker's local rank on this host.
        local_workers: the number of workers on this host.
        hosts: the number of hosts whose workers all-reduce among themselves first; 1 for a job
            on one host, 0 if they do not.
        host: the rank of its host.
        incoming_fd: the descriptor of the connection from the host before this one, if this worker
            exchanges sums with the other hosts; otherwise -1.
        outgoing_fd: that of the connection to the host after this one.
    """

    index: int
    workers: int
    seed: int
    status_fd: int = -1
    start_timeout: int = 600
    compress: bool = False
    scratch: str = ""
    memory_fd: int = -1
    local: int = 0
    local_workers: int = 1
    hosts: int = 1
    host: int = 0
    incoming_fd: int = -1
    outgoing_fd: int = -1


def format_membership(membership: Membership) -> str:
    """Return a membership as text for its variable."""
    import json

    return json.dumps(vars(membership))


def parse_membership(text: str) -> Membership:
    """Return the membership in a text.

    Raises:
        LaunchError: the text is invalid.
    """
    import json

    try:
        fields: Mapping[str, object] = json.loads(text)
        return Membership(**fields)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise LaunchError(f"{MEMBERSHIP_VARIABLE} is damaged: {error}") from error
