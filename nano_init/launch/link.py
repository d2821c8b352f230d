"""A connection between the launchers of two hosts: JSON objects, one a line."""

from __future__ import annotations

import json
import select
import time

from nano_init.errors import LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

__all__ = ["Link"]

_LONGEST = 1 << 20


class Link:
    """One end of the connection.

    Args:
        connection: the socket; it is closed with the link.
        name: what the other end is called in messages, such as "host 2 (10.0.0.7)".
    """

    def __init__(self, connection: socket.socket, name: str) -> None:
        self.name = name
        self.heard = time.monotonic()
        self._socket = connection
        self._socket.setblocking(True)
        self._buffer = b""

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    @property
    def own_address(self) -> str:
        """Return the address by which the other end sees this host."""
        return str(self._socket.getsockname()[0])

    @property
    def peer_address(self) -> str:
        """Return the other end's address."""
        return str(self._socket.getpeername()[0])

    def send(self, **message: Any) -> bool:
        """Send a message, and say whether the other end is still there."""
        try:
            self._socket.settimeout(5)
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return False
        return True

    def receive(self) -> list[dict[str, Any]] | None:
        """Return the messages that have come; None where the other end has gone."""
        try:
            self._socket.settimeout(5)
            data = self._socket.recv(65536)
        except OSError:
            return None
        if not data:
            return None
        self.heard = time.monotonic()
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        if len(self._buffer) > _LONGEST:
            return None
        try:
            messages = [json.loads(line) for line in lines]
        except ValueError:
            return None
        return messages if all(isinstance(message, dict) for message in messages) else None

    def wait(self, seconds: float) -> dict[str, Any]:
        """Return the next message.

        Raises:
            LaunchError: none has come in time, or the other end has gone.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            ready, _, _ = select.select([self._socket], [], [], 0.2)
            if not ready:
                continue
            messages = self.receive()
            if messages is None:
                raise LaunchError(f"{self.name} has closed the connection")
            if messages:
                return messages[0]
        raise LaunchError(f"{self.name} has not answered within {seconds:g} s")
