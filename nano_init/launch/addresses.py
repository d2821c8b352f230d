"""Host addresses as text: names, IPv4 and IPv6, with and without a port. Pure."""

from __future__ import annotations

import ipaddress

from nano_init.errors import UsageError

__all__ = ["bare_address", "is_loopback", "join_port", "parse_host", "with_scope"]


def join_port(host: str, port: object) -> str:
    """Return a host with its port; an IPv6 address gets brackets (RFC 3986, 3.2.2).

    Args:
        host: a name or an address, without brackets.
        port: the port, or a placeholder.
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_host(text: str, option: str) -> str:
    """Return a name or an address in the form for lookups: without the brackets of IPv6.

    Args:
        text: the user's text.
        option: the option that it was given with.

    Raises:
        UsageError: it is neither a name nor an address, such as a host with a port.
    """
    host = text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text
    is_plain = host and host.isprintable() and not set(host) & set(" /[]@")
    if is_plain and (":" not in host or _parse(host) is not None):
        return host
    raise UsageError(
        f"{option} is {text[:80]!r}; give a name, an IPv4 or an IPv6 address, and its port by "
        "--master-port"
    )


def bare_address(address: str) -> str:
    """Return an address in the form that all hosts use: without a scope, and IPv4 as IPv4.

    Args:
        address: as a socket returns it. "::ffff:10.0.0.7" is an IPv4 peer of an IPv6 socket. The
            scope after "%" names an interface of this host only (RFC 4007, 11).
    """
    parsed = _parse(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed or address)


def with_scope(address: str, scope: str) -> str:
    """Return an address as this host can reach it: a link-local address needs its interface.

    Args:
        address: a bare address, or a name.
        scope: the interface through which the other hosts are reached; "" for none.
    """
    parsed = _parse(address)
    is_local = isinstance(parsed, ipaddress.IPv6Address) and parsed.is_link_local
    return f"{address}%{scope}" if is_local and scope else address


def is_loopback(address: str) -> bool:
    """Say whether an address is a loopback address; a name is not."""
    parsed = _parse(bare_address(address))
    return parsed is not None and parsed.is_loopback


def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
