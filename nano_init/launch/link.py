"""A connection between the launchers of two hosts: JSON objects, one per line.

Once both ends have a key, each line carries its HMAC-SHA256 (RFC 2104) over its direction and
sequence number. Lines that an attacker inserts, repeats or drops are detected.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import select
import socket
import time
from collections import deque

from nano_init.errors import LaunchError
from nano_init.launch.addresses import bare_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["LONGEST_MESSAGE", "ForgedMessageError", "Link", "ShapelessMessageError"]

LONGEST_MESSAGE = 1 << 20
_READ = 1 << 16
_LEAVING = 2.0  # seconds for the other end to read the last message


class ShapelessMessageError(LaunchError):
    """The received data is not a message of nano-run."""


class ForgedMessageError(LaunchError):
    """A message has no HMAC, or a wrong one."""


class Link:
    """One end of the connection. Only `wait` and `leave` block.

    Args:
        connection: the socket; it is closed with the link.
        name: the other end's name in messages, such as "host 2 (10.0.0.7)".
        longest: the maximum size of a message in bytes.
    """

    def __init__(
        self, connection: socket.socket, name: str, longest: int = LONGEST_MESSAGE
    ) -> None:
        self.name = name
        self.longest = longest
        self.heard = time.monotonic()
        self._socket = connection
        self._socket.setblocking(False)
        self._received = bytearray()
        self._lines: deque[bytes] = deque()
        self._unsent = b""
        self._key = b""
        self._sides = (b"", b"")
        self._counts = [0, 0]

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def detach(self) -> socket.socket:
        """Return the connection, once all that was sent is on its way.

        The other end must not have sent anything that was not waited for.
        """
        self._socket.setblocking(True)
        self._flush()
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket

    def leave(self) -> None:
        """Close the connection once the other end has read everything, or after a short timeout."""
        deadline = time.monotonic() + _LEAVING
        while self._flush() and self._unsent and time.monotonic() < deadline:
            time.sleep(0.05)
        self.close()

    @property
    def own_address(self) -> str:
        """Return this host's address as the other end sees it, without a scope."""
        return bare_address(str(self._socket.getsockname()[0]))

    @property
    def peer_address(self) -> str:
        """Return the other end's address, without a scope.

        Raises:
            OSError: the other end has closed the connection.
        """
        return bare_address(str(self._socket.getpeername()[0]))

    @property
    def scope(self) -> str:
        """Return the interface of a link-local connection; "" for any other connection."""
        name = self._socket.getsockname()
        if len(name) < 4 or not name[3]:
            return ""
        with contextlib.suppress(OSError):
            return socket.if_indextoname(name[3])
        return str(name[3])

    def protect(self, key: bytes, own: bytes, other: bytes) -> None:
        """Sign all messages from now on, and reject received messages without a valid HMAC.

        Args:
            key: the key of this connection.
            own: the name of this end, which its HMACs cover.
            other: the name of the other end.
        """
        self._key, self._sides = key, (own, other)

    def send(self, **message: Any) -> bool:
        """Send a message, and return whether the connection is still open.

        Bytes that the socket does not accept now are sent by later calls.
        """
        if len(self._unsent) > LONGEST_MESSAGE:
            return False
        text = json.dumps(message).encode()
        proof = self._prove(0, text) + b" " if self._key else b""
        self._unsent += proof + text + b"\n"
        return self._flush()

    def _flush(self) -> bool:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return True
        except OSError:
            self._unsent = b""
            return False
        return True

    def fill(self) -> bool:
        """Read what has arrived, and return whether more may follow."""
        try:
            data = self._socket.recv(_READ)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        self._received += data
        if b"\n" in data:
            *lines, rest = self._received.split(b"\n")
            self._lines.extend(map(bytes, lines))
            self._received = rest
        return len(self._received) <= self.longest

    def pop(self) -> dict[str, Any] | None:
        """Return the next message that has arrived, or None.

        Raises:
            ForgedMessageError: its HMAC is missing or wrong.
            ShapelessMessageError: it is not a message.
        """
        if not self._lines:
            return None
        text = self._lines.popleft()
        if len(text) > self.longest:
            raise ShapelessMessageError(f"{self.name} sent an oversized message")
        if self._key:
            proof, _, text = text.partition(b" ")
            if not hmac.compare_digest(proof, self._prove(1, text)):
                raise ForgedMessageError(f"{self.name} sent a message without a valid HMAC")
        self.heard = time.monotonic()
        return _parse(text, self.name)

    def _prove(self, side: int, text: bytes) -> bytes:
        number = self._counts[side]
        self._counts[side] += 1
        head = b"%s %d " % (self._sides[side], number)
        return hmac.new(self._key, head + text, hashlib.sha256).hexdigest().encode()

    def receive(self) -> list[dict[str, Any]] | None:
        """Return the messages that have arrived, or None if the connection is closed.

        An end that sends invalid or forged messages counts as closed.
        """
        is_open = self.fill()
        messages = []
        try:
            while (message := self.pop()) is not None:
                messages.append(message)
        except (ForgedMessageError, ShapelessMessageError):
            return None
        return messages if is_open or messages else None

    def wait(self, seconds: float) -> dict[str, Any] | None:
        """Return the next message, or None if the connection is closed.

        Args:
            seconds: how long to wait.

        Raises:
            ForgedMessageError: its HMAC is missing or wrong.
            ShapelessMessageError: it is not a message.
            TimeoutError: none arrived in time.
        """
        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        is_open = True
        while True:
            message = self.pop()
            if message is not None or not is_open:
                return message
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{self.name} did not answer within {seconds:g} s")
            if poll.poll(min(left, 1) * 1000):
                is_open = self.fill()


def _parse(text: bytes, name: str) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise ShapelessMessageError(f"{name} sent invalid data")
    return message
