"""All-reduce of vectors over hosts, on the ring of connections that the launchers have made.

A segment of a vector is divided into as many parts as there are hosts. Each part goes around the
ring once while every host adds its own, and once more as the total (a reduce-scatter and an
all-gather: Patarasu, Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations",
2009). Every total is computed once and then copied, so all hosts have the same bits. Each segment
moves on by itself: while one is being reduced on its host, others are on the wire.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import contextmanager, suppress
from queue import SimpleQueue

import numpy as np

from nano_init.distributed.shared_memory_group import PeerLostError, UnequalStepsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from numpy.typing import NDArray

__all__ = ["HostRing", "RingSum"]

# Precedes each part: the number of the sum, the segment, the step, and the part's bytes.
_HEADER = struct.Struct("<QIIQ")
# Up to this size, all that a host sends fits into the buffers of its connection.
_AT_ONCE = 16 << 10
# The launcher, which detects the loss of a host too, should be the first to report it.
_GRACE_SECONDS = 1.0


class HostRing:
    """This host's end of the ring.

    Args:
        incoming: The connection from the host before this one.
        outgoing: The connection to the host after it.
        host: The rank of this host.
        hosts: The number of hosts.
    """

    def __init__(
        self, incoming: socket.socket, outgoing: socket.socket, host: int, hosts: int
    ) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self.host, self.hosts = host, hosts
        self._number = 0
        self._space = np.empty(0, np.uint8)

    @contextmanager
    def open_sum(
        self, vector: NDArray[Any], bounds: Sequence[tuple[int, int]]
    ) -> Iterator[RingSum]:
        """Begin a sum; all hosts must do so in the same order.

        Args:
            vector: This host's values, which the totals replace; of the same length and dtype on
                all hosts.
            bounds: Where each segment begins and ends.

        Yields:
            The sum, which must be given all segments, and waited for.

        Raises:
            PeerLostError: A connection to another host has ended.
            UnequalStepsError: Another host sums something else.
        """
        self._number += 1
        found = RingSum(self, self._number, vector, bounds)
        try:
            yield found
        except BaseException:
            # No thread of this host or of another one shall wait for what will not come.
            for connection in (self._incoming, self._outgoing):
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            raise
        finally:
            found.close()

    def take_space(self, size: int) -> NDArray[np.uint8]:
        """Return memory for a part, the same for all sums: fresh memory causes page faults."""
        if self._space.size < size:
            self._space = np.empty(size, np.uint8)
        return self._space

    def send(self, header: bytes, part: NDArray[Any]) -> None:
        """Send a part to the host after this one."""
        data = part.view(np.uint8).data
        try:
            sent = self._outgoing.sendmsg([header, data])
            if sent < len(header):
                self._outgoing.sendall(header[sent:])
                sent = len(header)
            self._outgoing.sendall(data[sent - len(header) :])
        except OSError as error:
            raise self._loss((self.host + 1) % self.hosts) from error

    def receive(self, part: NDArray[Any]) -> None:
        """Fill an array with what the host before this one sends."""
        view = part.view(np.uint8).data
        received = 0
        try:
            while received < len(view):
                count = self._incoming.recv_into(view[received:])
                if not count:
                    raise ConnectionError("the connection was closed")
                received += count
        except OSError as error:
            raise self._loss((self.host - 1) % self.hosts) from error

    def _loss(self, other: int) -> PeerLostError:
        time.sleep(_GRACE_SECONDS)
        return PeerLostError(
            f"nano-run: the first worker of host {other} has ended, or its connection, while host "
            f"{self.host} waits for its part of a step"
        )


class RingSum:
    """One sum over the hosts.

    Args:
        ring: The ring.
        number: The number of the sum.
        vector: The values of this host.
        bounds: Where each segment begins and ends.
    """

    def __init__(
        self, ring: HostRing, number: int, vector: NDArray[Any], bounds: Sequence[tuple[int, int]]
    ) -> None:
        self._ring, self._number = ring, number
        self._vector, self._bounds = vector, bounds
        self._steps = 2 * (ring.hosts - 1)
        longest = max(stop - start for start, stop in bounds)
        self._space = ring.take_space(-(-longest // ring.hosts) * vector.itemsize)
        self._changed = threading.Condition()
        self._given = 0
        self._is_closed = False
        self._outbox: SimpleQueue[tuple[int, int] | None] = SimpleQueue()
        self._finished: SimpleQueue[Exception | None] = SimpleQueue()
        self._is_small = len(bounds) == 1 and vector.nbytes <= _AT_ONCE
        self._threads = [
            threading.Thread(target=self._guarded, args=(act,), daemon=True)
            for act in (() if self._is_small else (self._send_all, self._receive_all))
        ]
        for thread in self._threads:
            thread.start()

    def give(self, segment: int) -> None:
        """Send a segment, once this host's values of it are in the vector."""
        self._outbox.put((segment, 0))
        with self._changed:
            self._given = segment + 1
            self._changed.notify_all()

    def wait(self) -> None:
        """Wait for the next segment's totals; they arrive in the order of the segments."""
        if self._is_small:
            self._outbox.put(None)
            for step in range(self._steps):
                self._send(0, step)
                self._take(*self._receive_header())
            return
        error = self._finished.get()
        if error is not None:
            raise error

    def close(self) -> None:
        """End the threads, which must have sent everything before the vector may change."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._outbox.put(None)
        for thread in self._threads:
            thread.join()

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - `wait` raises it
            self._finished.put(error)

    def _send_all(self) -> None:
        while (item := self._outbox.get()) is not None:
            self._send(*item)

    def _receive_all(self) -> None:
        left = [self._steps] * len(self._bounds)
        finished = 0
        while finished < len(left):
            segment, step = self._receive_header()
            with self._changed:
                while self._given <= segment and not self._is_closed:
                    self._changed.wait()
            if self._is_closed:
                return
            self._take(segment, step)
            if step + 1 < self._steps:
                self._outbox.put((segment, step + 1))
            left[segment] -= 1
            while finished < len(left) and not left[finished]:
                finished += 1
                self._finished.put(None)

    def _part(self, segment: int, number: int) -> NDArray[Any]:
        start, stop = self._bounds[segment]
        hosts, length = self._ring.hosts, stop - start
        first = length * (number % hosts) // hosts
        last = length * (number % hosts + 1) // hosts
        return self._vector[start + first : start + last]

    def _send(self, segment: int, step: int) -> None:
        part = self._part(segment, self._ring.host - step)
        self._ring.send(_HEADER.pack(self._number, segment, step, part.nbytes), part)

    def _receive_header(self) -> tuple[int, int]:
        header = np.empty(_HEADER.size, np.uint8)
        self._ring.receive(header)
        number, segment, step, size = _HEADER.unpack(header.tobytes())
        is_known = number == self._number and segment < len(self._bounds) and step < self._steps
        if not is_known or size != self._part(segment, self._ring.host - step - 1).nbytes:
            raise UnequalStepsError(
                f"nano-run: host {self._ring.host} and the host before it add up different things "
                "in one step: give all workers the same model and the same data, and let none skip "
                "a step"
            )
        return segment, step

    def _take(self, segment: int, step: int) -> None:
        part = self._part(segment, self._ring.host - step - 1)
        if step >= self._ring.hosts - 1:  # a total
            self._ring.receive(part)
            return
        received = self._space[: part.nbytes].view(part.dtype)
        self._ring.receive(received)
        with np.errstate(all="ignore"):
            np.add(received, part, out=part)
