"""The launchers of a job's hosts find one another, and make sure that they mean the same job.

Host 0 listens on the master port. Every other host connects, tells what it is going to run
and the ports of its workers, and gets the addresses of all. The connections stay open: over
them a failure on one host ends the job on all (see `supervision`).
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time

from nano_init.errors import LaunchError
from nano_init.frozen import frozen
from nano_init.launch.link import Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

__all__ = ["Host", "Meeting", "compare_facts", "meet"]

_HELLO_SECONDS = 10


@frozen
class Host:
    """This host's part in the rendezvous.

    Args:
        rank: its number.
        count: how many hosts there are.
        master: the address of host 0.
        port: the master port.
        ports: the ports of this host's workers.
        facts: what must be the same on all hosts, by a name that a user understands; "" for
            what need not be known on this one.
        shared: what host 0 decides for all.
    """

    rank: int
    count: int
    master: str
    port: int
    ports: tuple[int, ...]
    facts: Mapping[str, str]
    shared: Mapping[str, Any]


@frozen
class Meeting:
    """What the hosts have agreed on.

    Args:
        addresses: all workers' addresses, the chief's first.
        first: the number of this host's first worker.
        shared: what host 0 has decided.
        links: to all other hosts on host 0, and to host 0 elsewhere.
    """

    addresses: tuple[str, ...]
    first: int
    shared: Mapping[str, Any]
    links: tuple[Link, ...] = ()


def meet(host: Host, seconds: float) -> Meeting:
    """Wait for all hosts of the job, and agree with them.

    Args:
        host: this host.
        seconds: how long to wait.

    Raises:
        LaunchError: a host has not come, or means another job.
    """
    if host.count == 1:
        addresses = tuple(f"{host.master}:{port}" for port in host.ports)
        return Meeting(addresses, 0, host.shared)
    return _gather(host, seconds) if host.rank == 0 else _join(host, seconds)


def compare_facts(ours: Mapping[str, str], theirs: Mapping[str, str], name: str) -> str:
    """Return in one sentence how another host's job differs from host 0's; "" if it does not.

    Args:
        ours: the facts on host 0; one that is "" on either host is not compared.
        theirs: those on the other host.
        name: the other host's name.
    """
    for fact, value in ours.items():
        other = theirs.get(fact)
        if other != value and "" not in (value, other):
            return (
                f"{fact} differs: {value} on host 0, {other or 'not known'} on {name}; "
                "start the same on all hosts"
            )
    return ""


def _gather(host: Host, seconds: float) -> Meeting:
    links: dict[int, Link] = {}
    hellos: dict[int, Mapping[str, Any]] = {0: {"ports": host.ports}}
    deadline = time.monotonic() + seconds
    with _listen(host.port) as listener, selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while len(links) < host.count - 1:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                missing = [str(r) for r in range(1, host.count) if r not in links]
                sentence = _tell_missing(missing, seconds, host)
                _refuse(links.values(), sentence)
                raise LaunchError(sentence)
            connection, address = listener.accept()
            _admit(host, Link(connection, f"a host at {address[0]}"), links, hellos)
    return _announce(host, links, hellos)


def _tell_missing(missing: Sequence[str], seconds: float, host: Host) -> str:
    many = len(missing) > 1
    names = f"host{'s' if many else ''} {', '.join(missing)} of {host.count}"
    return (
        f"{names} {'have' if many else 'has'} not come within {seconds:g} s (--start-timeout); "
        f"start nano-run there with --node-rank {missing[0]} --master-addr {host.master} "
        f"--master-port {host.port}"
    )


def _admit(
    host: Host, link: Link, links: dict[int, Link], hellos: dict[int, Mapping[str, Any]]
) -> None:
    """Take in a host that has connected; whoever else connects is sent away."""
    try:
        hello = link.wait(_HELLO_SECONDS)
        rank, ports = int(hello["rank"]), [int(port) for port in hello["ports"]]
        facts = dict(hello["facts"])
    except (LaunchError, KeyError, TypeError, ValueError):
        link.close()
        return
    link.name = f"host {rank} ({link.peer_address})"
    fault = compare_facts({**host.facts, "--nnodes": str(host.count)}, facts, link.name)
    if not 1 <= rank < host.count or rank in links:
        fault = f"there are two hosts with --node-rank {rank}, or it is not below --nnodes"
    if fault:
        _refuse([*links.values(), link], fault)
        raise LaunchError(fault)
    links[rank] = link
    hellos[rank] = {"ports": ports}


def _announce(host: Host, links: dict[int, Link], hellos: dict[int, Mapping[str, Any]]) -> Meeting:
    addresses: list[str] = []
    firsts: list[int] = []
    ours = _own_address(links)
    for rank in range(host.count):
        name = links[rank].peer_address if rank else ours
        # A launcher on this very host is seen by the others as this host is.
        name = ours if _is_loopback(name) else name
        firsts.append(len(addresses))
        addresses += [f"{name}:{port}" for port in hellos[rank]["ports"]]
    for rank, link in links.items():
        link.send(addresses=addresses, first=firsts[rank], shared=host.shared)
    return Meeting(tuple(addresses), 0, host.shared, tuple(links[r] for r in sorted(links)))


def _own_address(links: Mapping[int, Link]) -> str:
    """Return the address by which the other hosts have found this one."""
    addresses = [links[rank].own_address for rank in sorted(links)]
    return next((a for a in addresses if not _is_loopback(a)), addresses[0])


def _is_loopback(address: str) -> bool:
    return address.startswith("127.")


def _join(host: Host, seconds: float) -> Meeting:
    place = f"{host.master}:{host.port}"
    deadline = time.monotonic() + seconds
    link = Link(_connect(host, deadline, seconds), f"host 0 at {place}")
    facts = {**host.facts, "--nnodes": str(host.count)}
    link.send(rank=host.rank, ports=host.ports, facts=facts)
    try:
        answer = link.wait(max(1.0, deadline - time.monotonic()) + 5)
    except LaunchError as error:
        raise LaunchError(f"{error}; is {place} the nano-run of host 0?") from error
    if "error" in answer:
        raise LaunchError(str(answer["error"]))
    try:
        addresses, first = [str(a) for a in answer["addresses"]], int(answer["first"])
        return Meeting(tuple(addresses), first, dict(answer["shared"]), (link,))
    except (KeyError, TypeError, ValueError):
        raise LaunchError(f"{place} answers, but is no nano-run; check --master-port") from None


def _connect(host: Host, deadline: float, seconds: float) -> socket.socket:
    reason = ""
    while time.monotonic() < deadline:
        try:
            return socket.create_connection((host.master, host.port), timeout=5)
        except socket.gaierror as error:
            reason = f"its name is not known ({error.strerror})"
        except OSError as error:
            reason = error.strerror or str(error)
        time.sleep(min(0.3, max(0.0, deadline - time.monotonic())))
    raise LaunchError(
        f"host 0 at {host.master}:{host.port} cannot be reached within {seconds:g} s "
        f"(--start-timeout): {reason}; check --master-addr, --master-port, and that it runs there"
    )


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server(("", port), backlog=1024)
    except OSError as error:
        raise LaunchError(
            f"cannot listen on port {port}: {error.strerror}; choose another one with --master-port"
        ) from error


def _refuse(links: Any, sentence: str) -> None:
    for link in links:
        with contextlib.suppress(OSError):
            link.send(error=sentence)
            link.close()
