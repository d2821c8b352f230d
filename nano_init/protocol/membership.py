"""A worker's place in its job, as the launcher hands it over. Values and their text only.

The launcher hands it over in one variable, which the bootstrap takes out of the environment
before the program runs: a Python that the program starts is no worker.
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
        index: the worker's number; 0 is the chief.
        workers: how many there are.
        seed: where unseeded random numbers start, the same for all workers.
        status_fd: the descriptor to tell the launcher by; -1 without one.
        start_timeout: seconds to wait for the other workers.
        compress: gradients travel between hosts in bfloat16.
        scratch: a folder for what only the chief's copy of is kept; "" for the chief.
        memory_fd: the descriptor of the memory that all workers of this host share; -1 without one.
        local: the worker's number on this host.
        local_workers: how many are on this host.
        hosts: on how many hosts workers add up among themselves first; 1 for a job on one host,
            0 where they do not.
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


def format_membership(membership: Membership) -> str:
    """Return a membership as text for its variable."""
    import json

    return json.dumps(vars(membership))


def parse_membership(text: str) -> Membership:
    """Return the membership that a text holds.

    Raises:
        LaunchError: the text is none.
    """
    import json

    try:
        fields: Mapping[str, object] = json.loads(text)
        return Membership(**fields)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise LaunchError(f"{MEMBERSHIP_VARIABLE} is damaged: {error}") from error
