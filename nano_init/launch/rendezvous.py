"""The rendezvous: the launchers of a job's hosts connect and verify that they run the same job.

Host 0 listens on the master port. Every other host connects, sends what it will run and the ports
of its workers, and receives the addresses of all workers. The connections stay open, so that a
failure on one host ends the job on all (see `peers`).
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time

from nano_init.errors import LaunchError
from nano_init.frozen import frozen, replace
from nano_init.launch.addresses import is_loopback, join_port, with_scope
from nano_init.launch.handshake import greet, one_line
from nano_init.launch.job_secret import JobSecret
from nano_init.launch.link import ForgedMessageError, Link, ShapelessMessageError
from nano_init.launch.listening import listen
from nano_init.launch.reception import Reception
from nano_init.launch.ring_connection import RingPlace, connect_ring, listen_for_ring, port_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from nano_init.launch.reception import Arrival

__all__ = ["Host", "Meeting", "compare_facts", "meet"]

_ANSWER_SECONDS = 10.0  # for host 0 to answer an opening
_BETWEEN_TRIES = 0.3
_SILENT_SECONDS = 10.0  # a longer wait is explained to the user
_MOST_WORKERS = 4096
_MOST_SEED = 1 << 31


@frozen
class Host:
    """This host's part in the rendezvous.

    Args:
        rank: its rank.
        count: how many hosts there are.
        master: the address of host 0.
        port: the master port.
        ports: the ports of this host's workers.
        facts: what must be the same on all hosts, by a name that users understand; "" if this
            host need not know it.
        seed: the seed of unseeded random numbers, if this is host 0.
        restarts: the number of restarts of the job, as far as this host knows.
        sums_here: whether this host's workers can all-reduce among themselves, or there is only
            one.
        secret: the job's secret.
        say: prints a sentence to the user.
    """

    rank: int
    count: int
    master: str
    port: int
    ports: tuple[int, ...]
    facts: Mapping[str, str]
    seed: int
    restarts: int
    sums_here: bool
    secret: JobSecret
    say: Callable[[str], None]


@frozen
class Meeting:
    """What the hosts agreed on.

    Args:
        addresses: all workers' addresses, the chief's first.
        first: the index of this host's first worker.
        seed: the seed of unseeded random numbers on all workers.
        restarts: the number of restarts of the job.
        sums_on_hosts: whether the workers of each host all-reduce among themselves first.
        links: on host 0 the links to all other hosts, elsewhere the link to host 0.
        ring: the connections from the host before this one and to the host after it, if the
            workers of each host all-reduce among themselves first.
    """

    addresses: tuple[str, ...]
    first: int
    seed: int
    restarts: int
    sums_on_hosts: bool
    links: tuple[Link, ...] = ()
    ring: tuple[socket.socket, ...] = ()


@frozen
class _Hello:
    """A host's description of itself."""

    rank: int
    ports: tuple[int, ...]
    facts: Mapping[str, str]
    restarts: int
    ring_port: int


def meet(host: Host, seconds: float) -> Meeting:
    """Wait for all hosts of the job, and agree on its parameters; say so if that takes long.

    Args:
        host: this host.
        seconds: how long to wait.

    Raises:
        HostLostError: a host was lost after all had connected.
        LaunchError: a host did not connect, or runs a different job.
    """
    if host.count == 1:
        addresses = tuple(join_port(host.master, port) for port in host.ports)
        return Meeting(addresses, 0, host.seed, host.restarts, host.sums_here)
    awaited = f"host 0 at {join_port(host.master, host.port)}" if host.rank else "all other hosts"
    sentence = f"waiting for {awaited}, at most {seconds:g} s (--start-timeout)"
    notice = threading.Timer(_SILENT_SECONDS, host.say, [sentence])
    notice.daemon = True
    notice.start()
    try:
        return _gather(host, seconds) if host.rank == 0 else _join(host, seconds)
    finally:
        notice.cancel()


def compare_facts(ours: Mapping[str, str], remote: Mapping[str, str], name: str) -> str:
    """Return in one sentence how another host's job differs from host 0's; "" if they match.

    Args:
        ours: the facts on host 0; a fact that is "" on either host is not compared.
        remote: the facts on the other host.
        name: the other host's name.
    """
    for fact, value in ours.items():
        other = remote.get(fact)
        if other != value and "" not in (value, other):
            return (
                f"{fact} differs: {value} on host 0, {other or 'not known'} on {name}; "
                "start the same on all hosts"
            )
    return ""


def _gather(host: Host, seconds: float) -> Meeting:
    links: dict[int, Link] = {}
    own = _Hello(0, host.ports, host.facts, host.restarts, 0)
    hellos: dict[int, _Hello] = {0: own}
    deadline = time.monotonic() + seconds
    listeners, reason = listen(host.master, host.port)
    if reason:
        host.say(f"{reason}: nano-run listens on all addresses, port {host.port}")
    with Reception(listeners, host.secret, host.say) as reception:
        while len(links) < host.count - 1:
            left = deadline - time.monotonic()
            if left <= 0:
                sentence = _tell_missing(links, seconds, host, reception.refused)
                _refuse(links.values(), sentence)
                raise LaunchError(sentence)
            arrivals, gone = reception.wait(left)
            for rank in [rank for rank, link in links.items() if link in gone]:
                del links[rank], hellos[rank]
            for arrival in arrivals:
                _take_in(host, arrival, links, hellos, reception)
    return _announce(host, links, hellos)


def _tell_missing(links: Mapping[int, Link], seconds: float, host: Host, refused: str) -> str:
    missing = [str(rank) for rank in range(1, host.count) if rank not in links]
    many = len(missing) > 1
    names = f"host{'s' if many else ''} {', '.join(missing)} of {host.count}"
    return (
        f"{names} {'have' if many else 'has'} not connected within {seconds:g} s (--start-timeout)"
        f"; start nano-run there with --node-rank {missing[0]} --master-addr {host.master} "
        f"--master-port {host.port}{f' ({refused})' if refused else ''}"
    )


def _take_in(
    host: Host,
    arrival: Arrival,
    links: dict[int, Link],
    hellos: dict[int, _Hello],
    reception: Reception,
) -> None:
    """Admit a host that connected; reject other connections."""
    link, hello = arrival.link, _read_hello(arrival.hello)
    if hello is None:
        reception.forget(link)
        return
    link.name = f"host {hello.rank} ({link.peer_address})"
    ours = {**host.facts, "--nnodes": str(host.count)}
    fault = compare_facts(ours, hello.facts, link.name)
    if not 1 <= hello.rank < host.count or hello.rank in links:
        fault = f"there are two hosts with --node-rank {hello.rank}, or it is not below --nnodes"
    if fault:
        _refuse([*links.values(), link], fault)
        raise LaunchError(fault)
    links[hello.rank] = link
    hellos[hello.rank] = hello


def _read_hello(message: Mapping[str, Any]) -> _Hello | None:
    rank, restarts = message.get("rank"), message.get("restarts")
    ports, facts = message.get("ports"), message.get("facts")
    if not (_is_count(rank) and _is_count(restarts) and isinstance(facts, dict)):
        return None
    if not isinstance(ports, list) or not 0 < len(ports) <= _MOST_WORKERS:
        return None
    if not all(_is_count(port) and 0 < port < 1 << 16 for port in ports):
        return None
    shown = {one_line(name): one_line(value) for name, value in facts.items()}
    ring_port = message.get("ring_port")
    if not _is_count(ring_port) or int(ring_port or 0) >= 1 << 16:
        return None
    return _Hello(int(rank or 0), tuple(ports), shown, int(restarts or 0), int(ring_port or 0))


def _is_count(value: object) -> bool:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return is_number and 0 <= value < _MOST_SEED  # type: ignore[operator]


def _announce(host: Host, links: dict[int, Link], hellos: dict[int, _Hello]) -> Meeting:
    addresses: list[tuple[str, int]] = []
    firsts: list[int] = []
    names = [_own_address(links)]
    for rank in range(host.count):
        name = links[rank].peer_address if rank else names[0]
        # Other hosts see a launcher on this host under this host's address.
        names[rank:] = [names[0] if is_loopback(name) else name]
        firsts.append(len(addresses))
        addresses += [(names[rank], port) for port in hellos[rank].ports]
    restarts = max(hello.restarts for hello in hellos.values())
    scope = next((link.scope for link in links.values() if link.scope), "")
    # Two-level sums must be possible on all hosts.
    ring: list[tuple[str, int]] = []
    listener = None
    if host.sums_here and all(hellos[rank].ring_port for rank in links):
        listener = listen_for_ring(names[0], scope, host.master)
        ports = [port_of(listener), *(hellos[rank].ring_port for rank in range(1, host.count))]
        ring = list(zip(names, ports, strict=True))
    shared = {"seed": host.seed, "restarts": restarts, "ring": ring}
    for rank, link in links.items():
        link.send(addresses=addresses, first=firsts[rank], **shared)
    ordered = tuple(links[rank] for rank in sorted(links))
    found = Meeting(_write(addresses, scope), 0, host.seed, restarts, bool(ring), ordered)
    return _join_ring(host, found, listener, _after(host, ring, scope), host.secret)


def _after(host: Host, ring: Sequence[Sequence[Any]], scope: str) -> tuple[str, int]:
    """Return where the host after this one listens."""
    name, port = ring[(host.rank + 1) % host.count] if ring else ("", 0)
    return with_scope(name, scope), int(port)


def _join_ring(
    host: Host,
    meeting: Meeting,
    listener: socket.socket | None,
    following: tuple[str, int],
    secret: JobSecret,
) -> Meeting:
    if listener is None or not meeting.sums_on_hosts:
        if listener is not None:
            listener.close()
        return meeting
    secret = JobSecret("secret", secret.key) if secret.key else JobSecret()
    place = RingPlace(host.rank, host.count, meeting.seed, secret, host.say)
    try:
        return replace(meeting, ring=connect_ring(place, listener, following))
    except LaunchError:
        for link in meeting.links:
            link.close()
        raise


def _write(addresses: Iterable[Sequence[Any]], scope: str) -> tuple[str, ...]:
    return tuple(join_port(with_scope(name, scope), port) for name, port in addresses)


def _own_address(links: Mapping[int, Link]) -> str:
    """Return the address by which the other hosts reached this one."""
    addresses = [links[rank].own_address for rank in sorted(links)]
    return next((a for a in addresses if not is_loopback(a)), addresses[0])


def _join(host: Host, seconds: float) -> Meeting:
    place = join_port(host.master, host.port)
    deadline = time.monotonic() + seconds
    reason = ""
    while (left := deadline - time.monotonic()) > 0:
        connection, reason = _connect(host, left, reason)
        if connection is None:
            time.sleep(min(_BETWEEN_TRIES, max(0.0, deadline - time.monotonic())))
            continue
        link = Link(connection, f"host 0 at {place}")
        try:
            meeting = _talk(host, link, max(1.0, deadline - time.monotonic()))
        except TimeoutError as error:
            link.close()
            raise LaunchError(f"{error}; is {place} nano-run on host 0?") from error
        except (ShapelessMessageError, ForgedMessageError):
            link.close()
            sentence = (
                f"{place} answers, but is not nano-run; check --master-addr and --master-port"
            )
            raise LaunchError(sentence) from None
        except LaunchError:
            link.leave()
            raise
        if meeting is not None:
            return meeting
        link.close()
        reason = "it closes the connection, so it may not be nano-run"
        time.sleep(_BETWEEN_TRIES)
    raise LaunchError(
        f"host 0 at {place} cannot be reached within {seconds:g} s (--start-timeout): {reason}; "
        "check --master-addr and --master-port, and that nano-run is running on host 0"
    )


def _connect(host: Host, seconds: float, reason: str) -> tuple[socket.socket | None, str]:
    """Return a connection to the first of host 0's addresses that accepts it, or why none does."""
    try:
        timeout = max(0.1, min(5.0, seconds))
        return socket.create_connection((host.master, host.port), timeout), reason
    except (socket.gaierror, UnicodeError) as error:
        return None, f"its name cannot be resolved ({getattr(error, 'strerror', None) or error})"
    except OSError as error:
        return None, error.strerror or str(error)


def _talk(host: Host, link: Link, seconds: float) -> Meeting | None:
    """Return host 0's message; None if it closed the connection first."""
    secret = greet(link, host.secret, min(seconds, _ANSWER_SECONDS))
    if secret is None:
        return None
    with contextlib.ExitStack() as stack:
        listener = None
        if host.sums_here:
            listener = listen_for_ring(link.own_address, link.scope, host.master)
            stack.callback(listener.close)
        link.send(
            rank=host.rank,
            ports=host.ports,
            facts={**host.facts, "--nnodes": str(host.count)},
            restarts=host.restarts,
            ring_port=port_of(listener) if listener is not None else 0,
        )
        message = link.wait(seconds + 5)
        if message is None:
            return None
        if "error" in message:
            raise LaunchError(one_line(message["error"]))
        meeting = _read_meeting(message, link, host)
        following = _after(host, message["ring"], link.scope)
        return _join_ring(host, meeting, listener, following, secret)


def _read_meeting(message: Mapping[str, Any], link: Link, host: Host) -> Meeting:
    addresses, ring = message.get("addresses"), message.get("ring")
    numbers = [message.get(name) for name in ("first", "seed", "restarts")]
    are_lists = all(
        isinstance(each, list) and all(_is_place(place) for place in each)
        for each in (addresses, ring)
    )
    first, seed, restarts = (int(n) if _is_count(n) else -1 for n in numbers)  # type: ignore[arg-type]
    last = len(addresses or ()) - len(host.ports) if are_lists else -1
    if min(first, seed, restarts) < 0 or first > last or len(ring or ()) not in (0, host.count):
        raise ShapelessMessageError(f"{link.name} sent invalid data")
    written = _write(addresses or (), link.scope)
    return Meeting(written, first, seed, restarts, bool(ring), (link,))


def _is_place(place: object) -> bool:
    return (
        isinstance(place, list)
        and len(place) == 2
        and isinstance(place[0], str)
        and _is_count(place[1])
    )


def _refuse(links: Iterable[Link], sentence: str) -> None:
    for link in links:
        with contextlib.suppress(OSError):
            link.send(error=sentence)
            link.leave()
