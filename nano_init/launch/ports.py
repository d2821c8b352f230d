"""Free ports for the workers' servers, held until these bind them."""

from __future__ import annotations

import socket

__all__ = ["HeldPort"]


class HeldPort:
    """A free port that no other program is given meanwhile.

    A socket is bound to it but does not listen. With SO_REUSEADDR on both, Linux lets the
    worker's server bind the port as well and listen (gRPC sets it: prepare_socket in
    src/core/lib/iomgr/tcp_server_utils_posix_common.cc), while it gives the port to nobody who
    asks for any (inet_csk_get_port in net/ipv4/inet_connection_sock.c).
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("", 0))
        self.number = int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Give the port up."""
        self._socket.close()
