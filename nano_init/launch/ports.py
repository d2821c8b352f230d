"""Free ports for the workers' servers, reserved until the servers bind them."""

from __future__ import annotations

import socket

from nano_init.errors import LaunchError

__all__ = ["HeldPort"]


class HeldPort:
    """A free port that no other program can get in the meantime.

    A socket is bound to it but does not listen. With SO_REUSEADDR on both sockets, Linux lets
    the worker's server bind the port as well and listen (gRPC sets it: prepare_socket in
    src/core/lib/iomgr/tcp_server_utils_posix_common.cc). It does not assign the port to sockets
    that ask for any free port (inet_csk_get_port in net/ipv4/inet_connection_sock.c).
    """

    def __init__(self) -> None:
        self._socket = _hold()
        self.number = int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Release the port."""
        self._socket.close()


def _hold() -> socket.socket:
    """Return a socket bound to a port on all IPv6 and IPv4 addresses, as gRPC binds."""
    for family, host in ((socket.AF_INET6, "::"), (socket.AF_INET, "")):
        try:
            held = socket.socket(family, socket.SOCK_STREAM)
        except OSError:  # a kernel without IPv6
            continue
        try:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            held.bind((host, 0))
        except OSError:
            held.close()
            continue
        return held
    raise LaunchError("no port is available for a worker: this host has neither IPv4 nor IPv6")
