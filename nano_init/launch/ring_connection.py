"""The ring of connections over which the hosts exchange sums.

Each launcher accepts a connection from the launcher before it and connects to the one after it.
Both ends prove the job's secret, as at the rendezvous. The launcher's first worker inherits the two
connections, so no worker listens or holds a secret.
"""

from __future__ import annotations

import contextlib
import socket
import time

from nano_init.errors import HostLostError
from nano_init.frozen import frozen
from nano_init.launch.addresses import is_loopback, join_port, with_scope
from nano_init.launch.handshake import greet
from nano_init.launch.link import ForgedMessageError, Link, ShapelessMessageError
from nano_init.launch.listening import listen_anywhere
from nano_init.launch.reception import Reception

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from nano_init.launch.job_secret import JobSecret

__all__ = ["RingPlace", "connect_ring", "listen_for_ring", "port_of"]

# All hosts have met when they connect, so this does not depend on when they were started.
_SECONDS = 30.0


@frozen
class RingPlace:
    """This host's place in the ring.

    Args:
        rank: its rank.
        count: the number of hosts, at least 2.
        seed: the job's seed, which identifies the attempt.
        secret: the job's secret.
        say: prints a sentence to the user.
    """

    rank: int
    count: int
    seed: int
    secret: JobSecret
    say: Callable[[str], None]

    @property
    def before(self) -> int:
        """Return the rank of the host that connects to this one."""
        return (self.rank - 1) % self.count

    @property
    def after(self) -> int:
        """Return the rank of the host that this one connects to."""
        return (self.rank + 1) % self.count


def listen_for_ring(address: str, scope: str, master: str) -> socket.socket:
    """Listen for the host before this one, at a free port.

    Args:
        address: the address of this host on its connection to host 0 or, on host 0, to the others.
        scope: the interface of a link-local address, or "".
        master: the address of host 0.

    Raises:
        LaunchError: the address cannot be listened on.
    """
    # A loopback address reaches host 0, but perhaps not this host from the others.
    is_only_here = master == "localhost" or is_loopback(master)
    if is_loopback(address) and not is_only_here:
        return listen_anywhere("")
    return listen_anywhere(with_scope(address, scope))


def port_of(listener: socket.socket) -> int:
    """Return the port of a listening socket."""
    return int(listener.getsockname()[1])


def connect_ring(
    place: RingPlace, listener: socket.socket, following: tuple[str, int]
) -> tuple[socket.socket, socket.socket]:
    """Connect to the neighbours; every host of the job calls this after the rendezvous.

    Host 0 accepts first and the others connect first, so that no host waits for itself.

    Args:
        place: this host's place.
        listener: the socket from `listen_for_ring`; it is closed.
        following: the address and port at which the host after this one listens.

    Returns:
        The connections from the host before this one, and to the host after it.

    Raises:
        HostLostError: a neighbour cannot be reached.
    """
    deadline = time.monotonic() + _SECONDS
    with contextlib.ExitStack() as stack:
        stack.callback(listener.close)
        if place.rank == 0:
            incoming = stack.enter_context(_accept(place, listener, deadline))
            outgoing = _connect(place, following, deadline)
        else:
            outgoing = stack.enter_context(_connect(place, following, deadline))
            incoming = _accept(place, listener, deadline)
        stack.pop_all()
        listener.close()
        return incoming, outgoing


def _accept(place: RingPlace, listener: socket.socket, deadline: float) -> socket.socket:
    expected = _describe(place, place.before, place.rank)
    where = join_port(*listener.getsockname()[:2])
    with Reception([listener], place.secret, place.say) as reception:
        while (left := deadline - time.monotonic()) > 0:
            arrivals, _ = reception.wait(left)
            found = [arrival.link for arrival in arrivals if arrival.hello == expected]
            for arrival in arrivals:
                if arrival.link not in found[:1]:
                    reception.forget(arrival.link)
            if found:
                found[0].send(event="connected")
                return found[0].detach()
    raise HostLostError(
        f"host {place.before} has not connected to host {place.rank} at {where} within "
        f"{_SECONDS:g} s; let all hosts of the job reach each other's ports"
    )


def _connect(place: RingPlace, following: tuple[str, int], deadline: float) -> socket.socket:
    name = f"host {place.after} at {join_port(*following)}"
    reason = "it did not answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            connection = socket.create_connection(following, max(0.1, min(5.0, left)))
        except OSError as error:
            reason = error.strerror or str(error)
            time.sleep(min(0.3, left))
            continue
        link = Link(connection, name)
        try:
            if greet(link, place.secret, left) is not None:
                link.send(**_describe(place, place.rank, place.after))
                if link.wait(left) is not None:
                    return link.detach()
            reason = "it closed the connection"
        except (ForgedMessageError, ShapelessMessageError, TimeoutError) as error:
            reason = str(error)
        link.close()
        break
    raise HostLostError(
        f"{name} cannot be reached by host {place.rank}: {reason}; let all hosts of the job reach "
        "each other's ports"
    )


def _describe(place: RingPlace, source: int, target: int) -> dict[str, Any]:
    return {"ring": place.seed, "from": source, "to": target}
