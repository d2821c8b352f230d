"""The launchers on a job's other hosts, as one attempt sees them.

Host 0 is connected to all other hosts and decides; the others are connected to host 0 only. A
failure on any host is reported at once and ends the workers on all hosts. The host with the first
failure determines how the attempt ended.
"""

from __future__ import annotations

import select
import signal
import time

from nano_init.launch.handshake import one_line
from nano_init.launch.running_worker import AttemptOutcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from nano_init.launch.link import Link

__all__ = ["Peers"]

_SILENT = 20.0  # seconds after which a silent host is lost
_BEAT = 3.0  # seconds between two heartbeats
_VERDICT = 12.0  # seconds to wait for the outcome of other hosts


class Peers:
    """The other hosts; none for a job on one host.

    Args:
        links: on host 0 the links to all others, elsewhere the link to host 0.
        is_first: whether this is host 0.
    """

    def __init__(self, links: Sequence[Link] = (), *, is_first: bool = True) -> None:
        self.links = list(links)
        self.lost = ""
        self.signal = 0
        self.failing: Link | None = None
        self.joined: list[tuple[float, int]] = []
        self._missing: dict[Link, list[str]] = {}
        self._told_missing: list[str] | None = None
        self._failing_since = 0.0
        self.is_first = is_first
        self._done: set[Link] = set()
        self._reports: dict[Link, AttemptOutcome] = {}
        self._verdict: AttemptOutcome | None = None
        self._may_go = False
        self._has_told = False
        self._beaten = 0.0

    def beat(self, now: float) -> None:
        """Send heartbeats to the other hosts, and check that they send some."""
        if now - self._beaten > _BEAT:
            self._beaten = now
            self._tell("alive")
        for link in [link for link in self.links if now - link.heard > _SILENT]:
            self._lose(link, f"{link.name} sent nothing for {_SILENT:g} s")

    def settle(self) -> None:
        """Wait until hosts that miss heartbeats are heard again, or are lost.

        TensorFlow gives up a host whose link is cut sooner than the launchers do.
        """
        while any(time.monotonic() - link.heard > 2.5 * _BEAT for link in self.links):
            for link in _ready(self.links):
                self.hear(link)
            self.beat(time.monotonic())

    def hear(self, link: Link) -> None:
        """Handle a host's messages."""
        messages = link.receive() if link in self.links else []
        if messages is None:
            self._lose(link, f"{link.name} disconnected; its workers are lost")
            return
        try:
            for message in messages:
                self._take(link, message)
        except (KeyError, OverflowError, TypeError, ValueError):
            self._lose(link, f"{link.name} sent invalid data")

    def _lose(self, link: Link, sentence: str) -> None:
        self.lost = self.lost or sentence
        self._done.discard(link)
        self.links.remove(link)

    def _take(self, link: Link, message: dict[str, Any]) -> None:
        event = message.get("event")
        if event == "done":
            self._done.add(link)
        elif event == "go":
            self._may_go = True
        elif event == "signal":
            self.signal = signal.Signals(message["number"])
            if self.is_first:
                self._tell("signal", number=self.signal)
        elif event == "joined":
            # The hosts' clocks differ, so the time of arrival here counts.
            self.joined += [(time.monotonic(), int(index)) for index in message["joined"]]
            self._missing[link] = [
                f"{one_line(name)} on {link.name}" for name in message["missing"]
            ]
        elif event == "failing":
            self.failing, self._failing_since = self.failing or link, time.monotonic()
        elif event == "report":
            self._reports[link] = _read_outcome(message)
        elif event == "verdict":
            self._verdict = _read_outcome(message)

    def are_done(self) -> bool:
        """Say whether all other hosts' workers are done; call it once this host's are."""
        if not self.links:
            return True
        if self.is_first:
            self._may_go = len(self._done) == len(self.links)
        if not self._has_told and (self._may_go or not self.is_first):
            self._has_told = True
            self._tell("go" if self.is_first else "done")
        return self._may_go

    @property
    def missing(self) -> list[str]:
        """Return the names of other hosts' workers that have not joined; host 0 only."""
        return [name for link in self.links for name in self._missing.get(link, ())]

    def tell_joined(self, joined: Sequence[int], missing: list[str]) -> None:
        """Report to host 0 which workers of this host have initialized TensorFlow.

        Args:
            joined: the indices of those that have.
            missing: the names of those that run but have not.
        """
        if not self.is_first and missing != self._told_missing:
            self._told_missing = missing
            self._tell("joined", joined=list(joined), missing=missing)

    def tell_failing(self) -> None:
        """Make the other hosts end this attempt."""
        self._tell("failing")

    def tell_signal(self, number: int) -> None:
        """Forward the signal that this host received to the workers on the other hosts."""
        self._tell("signal", number=number)

    def agree(self, own: AttemptOutcome, failed: float) -> AttemptOutcome:
        """Return how the attempt ended on all hosts.

        Args:
            own: how it ended on this host.
            failed: the time when the first worker of this host failed, or 0.
        """
        if self._verdict is not None:  # host 0 may have ended, and closed its link
            return self._verdict
        if not self.links or not (own.status or self.failing):
            return own
        if self.is_first:
            verdict = self._judge(own, failed)
            self._tell("verdict", **_write_outcome(verdict))
            return verdict
        self._tell("report", **_write_outcome(own))
        self._wait(lambda: self._verdict is not None)
        return self._verdict or own

    def _judge(self, own: AttemptOutcome, failed: float) -> AttemptOutcome:
        link = self.failing
        if link is None or (failed and failed < self._failing_since):
            return own
        self._wait(lambda: link in self._reports)
        report = self._reports.get(link)
        return report if report is not None and report.status else own

    def _wait(self, is_there: Any) -> None:
        deadline = time.monotonic() + _VERDICT
        while self.links and not is_there() and time.monotonic() < deadline:
            for link in _ready(self.links):
                self.hear(link)

    def _tell(self, event: str, **content: Any) -> None:
        for link in self.links:
            link.send(event=event, **content)


def _ready(links: Sequence[Link]) -> list[Link]:
    poll = select.poll()
    by_descriptor = {link.fileno(): link for link in links}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.POLLIN)
    return [by_descriptor[descriptor] for descriptor, _ in poll.poll(200)]


def _write_outcome(outcome: AttemptOutcome) -> dict[str, Any]:
    return {**vars(outcome), "traceback": outcome.traceback.decode("utf-8", "replace")}


def _read_outcome(message: dict[str, Any]) -> AttemptOutcome:
    return AttemptOutcome(
        int(message["status"]),
        one_line(message["sentence"]),
        str(message["traceback"]).encode("utf-8", "replace"),
        can_restart=bool(message["can_restart"]),
    )
