"""The sockets that host 0 listens on: on the master address, not on all addresses."""

from __future__ import annotations

import contextlib
import errno
import socket

from nano_init.errors import LaunchError
from nano_init.launch.addresses import is_loopback, join_port

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["listen", "listen_anywhere"]

_BACKLOG = 1024


def listen(master: str, port: int) -> tuple[list[socket.socket], str]:
    """Listen on the addresses that the master's name resolves to on this host.

    If none of them belongs to this host (as behind NAT), or only a loopback address does (as in
    Debian's /etc/hosts), the address that other hosts use is unknown. Then listen on all addresses.

    Args:
        master: the name or address by which the other hosts reach this host.
        port: the port.

    Returns:
        The sockets; and why they listen on all addresses, or "".

    Raises:
        LaunchError: the port is in use.
    """
    found, reason = _look_up(master, port)
    is_meant = master == "localhost" or is_loopback(master)
    if not is_meant and found and all(is_loopback(str(place[1][0])) for place in found):
        found, reason = [], f"{master!r} is a loopback address of this host"
    sockets = _open_all(found, port)
    if sockets:
        return sockets, ""
    with contextlib.suppress(OSError):
        return [_open(socket.AF_INET6, ("::", port), is_for_all=True)], reason
    try:
        return [_open(socket.AF_INET, ("", port))], reason
    except OSError as error:
        raise _refusal(f"port {port}", error) from error


def listen_anywhere(address: str) -> socket.socket:
    """Listen at a free port.

    Args:
        address: the address to listen on, with its scope; "" for all.

    Raises:
        LaunchError: the address cannot be listened on.
    """
    if not address:
        with contextlib.suppress(OSError):
            return _open(socket.AF_INET6, ("::", 0), is_for_all=True)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        (found, *_) = (
            socket.getaddrinfo(address, 0, family, socket.SOCK_STREAM)
            if address
            else [(0, 0, 0, "", ("", 0))]
        )
        return _open(family, found[4])
    except OSError as error:
        raise LaunchError(f"cannot listen on {address or 'any address'}: {error}") from error


def _look_up(master: str, port: int) -> tuple[list[tuple[int, Any]], str]:
    try:
        found = socket.getaddrinfo(master, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return [], f"{master!r} cannot be resolved on this host ({reason})"
    places = dict.fromkeys((int(family), place) for family, _, _, _, place in found)
    return list(places), f"{master!r} is not an address of this host"


def _open_all(places: list[tuple[int, Any]], port: int) -> list[socket.socket]:
    sockets = []
    for family, place in places:
        try:
            sockets.append(_open(family, place))
        except OSError as error:  # noqa: PERF203 - each address may belong to another host
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENODEV):
                continue
            for opened in sockets:
                opened.close()
            raise _refusal(join_port(str(place[0]), port), error) from error
    return sockets


def _open(family: int, place: Any, *, is_for_all: bool = False) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not is_for_all)
        opened.bind(place)
        opened.listen(_BACKLOG)
        opened.setblocking(False)
    except OSError:
        opened.close()
        raise
    return opened


def _refusal(place: str, error: OSError) -> LaunchError:
    return LaunchError(
        f"host 0 cannot listen on {place}: {error.strerror}; give all hosts another --master-port"
    )
