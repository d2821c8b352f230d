"""Connections to host 0 before the rendezvous is complete, handled concurrently.

No connection waits for another. The bytes per connection, the seconds without a handshake and
the number of connections are bounded.
"""

from __future__ import annotations

import contextlib
import selectors
import time

from nano_init.errors import LaunchError
from nano_init.frozen import frozen
from nano_init.launch.addresses import bare_address
from nano_init.launch.handshake import HOW_TO_SHARE, answer
from nano_init.launch.link import LONGEST_MESSAGE, ForgedMessageError, Link, ShapelessMessageError
from nano_init.launch.munge import seal

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from typing import Any

    from nano_init.launch.job_secret import JobSecret

__all__ = ["Arrival", "Reception"]

_SECONDS = 10.0  # seconds for the handshake
_VISITORS = 400  # half of the usual limit of descriptors per process
_ACCEPTED = 64  # accepted at once, before existing connections are read
_LONGEST = 1 << 16  # bytes per message during the handshake
_TOLD = 5  # rejected connections that are reported to the user
_CREDENTIAL_SECONDS = 60.0


@frozen
class Arrival:
    """A host that knows the job's secret.

    Args:
        link: the link to its launcher.
        hello: its description of itself.
    """

    link: Link
    hello: dict[str, Any]


class Reception:
    """Host 0's end of all connections until the rendezvous is complete.

    Args:
        listeners: the listening sockets; they are closed with this object.
        secret: the job's secret.
        say: prints a sentence to the user.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        secret: JobSecret,
        say: Callable[[str], None],
    ) -> None:
        self.refused = ""
        self._listeners = list(listeners)
        self._secret = secret
        self._say = say
        self._told = 0
        self._visitors: dict[Link, float] = {}
        self._greeted: set[Link] = set()
        self._admitted: set[Link] = set()
        self._credential = ("", 0.0)
        self._selector = selectors.DefaultSelector()
        for listener in self._listeners:
            self._selector.register(listener, selectors.EVENT_READ)

    def __enter__(self) -> Reception:
        return self

    def __exit__(self, *_: object) -> None:
        """Close connections without a completed handshake, and stop listening."""
        for visitor in list(self._visitors):
            self._drop(visitor)
        self._selector.close()
        for listener in self._listeners:
            listener.close()

    def wait(self, seconds: float) -> tuple[list[Arrival], list[Link]]:
        """Wait for events.

        Args:
            seconds: the maximum time to wait.

        Returns:
            The hosts that joined, and the links of joined hosts that disconnected.
        """
        arrivals, gone = [], []
        for key, _ in self._selector.select(min(seconds, 0.5)):
            source = key.fileobj
            if isinstance(source, Link):
                if source in self._admitted:
                    gone += self._hear_admitted(source)
                else:
                    arrivals += self._hear(source)
            else:
                self._accept(key.fileobj)
        self._drop_late()
        return arrivals, gone

    def _accept(self, listener: Any) -> None:
        for _ in range(_ACCEPTED):
            try:
                connection, address = listener.accept()
            except OSError:  # no connection is pending, or no descriptor is free
                return
            if len(self._visitors) >= _VISITORS:
                self._drop(next(iter(self._visitors)))  # the oldest connection
            link = Link(connection, f"a host at {bare_address(str(address[0]))}", _LONGEST)
            self._visitors[link] = time.monotonic()
            self._selector.register(link, selectors.EVENT_READ)

    def _hear(self, link: Link) -> list[Arrival]:
        is_open = link.fill()
        try:
            while (message := link.pop()) is not None:
                if link in self._greeted:
                    return [self._admit(link, message)]
                fault = answer(link, message, self._secret, self._find_credential())
                self._greeted.add(link)
                if fault:
                    self._refuse(link, fault)
                    return []
        except ForgedMessageError:
            self._refuse(link, f"{link.name} does not know the job's secret: {HOW_TO_SHARE}")
            return []
        except (LaunchError, ShapelessMessageError):
            is_open = False
        if not is_open:
            self._drop(link)
        return []

    def _admit(self, link: Link, hello: dict[str, Any]) -> Arrival:
        del self._visitors[link]
        link.longest = LONGEST_MESSAGE
        self._admitted.add(link)
        return Arrival(link, hello)

    def _hear_admitted(self, link: Link) -> list[Link]:
        if link.receive() is not None:
            return []
        self.forget(link)
        return [link]

    def forget(self, link: Link) -> None:
        """Close the link of a host that had joined."""
        self._admitted.discard(link)
        self._close(link)

    def _find_credential(self) -> str:
        if self._secret.kind != "munge":
            return ""
        credential, made = self._credential
        now = time.monotonic()
        if not credential or now - made > _CREDENTIAL_SECONDS:
            credential = seal(self._secret.key)
            self._credential = (credential, now)
        return credential

    def _refuse(self, link: Link, sentence: str) -> None:
        self.refused = sentence
        self._told += 1
        if self._told <= _TOLD:
            more = "; further ones are not reported" if self._told == _TOLD else ""
            self._say(sentence + more)
        self._drop(link)

    def _drop_late(self) -> None:
        now = time.monotonic()
        for link, since in list(self._visitors.items()):
            if now - since < _SECONDS:
                return  # they are in the order of their arrival
            self._drop(link)

    def _drop(self, link: Link) -> None:
        self._visitors.pop(link, None)
        self._close(link)

    def _close(self, link: Link) -> None:
        self._greeted.discard(link)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(link)
        link.close()
