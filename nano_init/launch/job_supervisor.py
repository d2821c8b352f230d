"""One attempt of a job on this host: from the start of its workers to the end of the last."""

from __future__ import annotations

import selectors
import signal
import time

from nano_init.launch.running_worker import AttemptOutcome
from nano_init.launch.signals import PASSED_ON, Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nano_init.launch.guard import Guard
    from nano_init.launch.link import Link
    from nano_init.launch.output import Stream
    from nano_init.launch.peers import Peers
    from nano_init.launch.running_worker import Worker

__all__ = ["Supervisor"]

# Timeouts in seconds.
_FAILING = 2.0  # for a failed worker to print its traceback and exit
_ASKED = 4.0  # for the others to exit after SIGTERM
_INTERRUPTED = 15.0  # after the user's signal: the script may save its state
_STOPPED = 20.0  # for a stopped worker, which blocks all others
_LEAVING = 5.0  # for a finished worker to wait for its peers
_TICK = 0.2


class Supervisor:
    """Supervises the workers of one attempt.

    Args:
        workers: the running workers.
        guard: cleans up if the launcher is killed.
        start_timeout: seconds to wait for workers that have not joined.
        peers: the other hosts' launchers.
    """

    def __init__(
        self, workers: Sequence[Worker], guard: Guard, start_timeout: float, peers: Peers
    ) -> None:
        self._workers = list(workers)
        self._guard = guard
        self._start_timeout = start_timeout
        self._peers = peers
        self._selector = selectors.DefaultSelector()
        self._outcome: AttemptOutcome | None = None
        self._decided = 0.0
        self._deadlines: list[tuple[float, int]] = []
        self._is_ending = False
        self._signal = 0

    def run(self) -> AttemptOutcome:
        """Supervise until the last worker of this host has ended.

        Returns:
            How the attempt ended, whichever host decided that.
        """
        with Signals() as signals, self._selector:
            self._register(signals)
            while self._running():
                for key, _ in self._selector.select(_TICK):
                    key.data()
                self._reap()
                self._check()
            own = self._conclude()
            outcome = self._peers.agree(own, self._first_failure())
        for worker in self._workers:
            worker.close()
        return outcome

    def _running(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.is_running]

    def _register(self, signals: Signals) -> None:
        def on_signals() -> None:
            for number in signals.take():
                self._on_signal(number)

        read = selectors.EVENT_READ
        self._selector.register(signals.reader, read, on_signals)
        for worker in self._workers:
            self._guard.watch(worker.process.pid)
            self._selector.register(worker.status, read, self._hearing(worker))
            for stream in worker.streams:
                self._selector.register(stream.fd, read, self._pumping(stream))
        for link in self._peers.links:
            self._selector.register(link, read, self._hearing_peer(link))

    def _pumping(self, stream: Stream) -> Callable[[], None]:
        def pump() -> None:
            if not stream.pump():
                self._selector.unregister(stream.fd)

        return pump

    def _hearing(self, worker: Worker) -> Callable[[], None]:
        def hear() -> None:
            if not worker.hear():
                self._selector.unregister(worker.status)
            if worker.failed:
                self._end_after(_FAILING)

        return hear

    def _hearing_peer(self, link: Link) -> Callable[[], None]:
        def hear() -> None:
            self._peers.hear(link)
            if link not in self._peers.links:
                self._selector.unregister(link)

        return hear

    def _reap(self) -> None:
        for worker in self._running():
            if worker.process.poll() is None:
                continue
            worker.ended = time.monotonic()
            worker.hear()
            worker.signal(signal.SIGKILL)  # its child processes are killed too
            self._guard.forget(worker.process.pid)
            if worker.process.returncode:
                self._end_after(_FAILING)

    def _end_after(self, patience: float) -> None:
        """Let the workers exit by themselves, then send SIGTERM, then SIGKILL."""
        if self._is_ending:
            return
        self._is_ending = True
        now = time.monotonic()
        self._deadlines = [
            (now + patience, signal.SIGTERM),
            (now + patience + _ASKED, signal.SIGKILL),
        ]
        self._peers.tell_failing()

    def _fail(self, sentence: str, status: int = 1) -> None:
        if self._is_ending:
            return
        self._decide(AttemptOutcome(status, sentence, can_restart=True))

    def _decide(self, outcome: AttemptOutcome) -> None:
        self._outcome = outcome
        self._decided = time.monotonic()
        self._end_after(0.0)

    def _on_signal(self, number: int) -> None:
        if number in PASSED_ON:
            self._send(number)
        elif self._signal and number == signal.SIGINT:
            self._send(signal.SIGKILL)  # the second Ctrl-C
        else:
            self._take_signal(number)
            self._peers.tell_signal(number)

    def _take_signal(self, number: int) -> None:
        self._signal = self._signal or number
        self._send(number)
        self._end_after(_INTERRUPTED)

    def _send(self, number: int) -> None:
        for worker in self._running():
            worker.signal(number)

    def _check(self) -> None:
        now = time.monotonic()
        for deadline, number in self._deadlines:
            if now >= deadline:
                for worker in self._running():
                    worker.end_by(number)
        self._deadlines = [(at, number) for at, number in self._deadlines if now < at]
        self._check_leaving(now)
        if not self._is_ending:
            self._check_joined(now)
            self._check_stopped(now)
            self._check_peers(now)

    def _check_joined(self, now: float) -> None:
        """Check on host 0 that all workers join, whichever host they are on."""
        joined = [(worker.joined, worker.index) for worker in self._workers if worker.joined]
        missing = [worker.name for worker in self._running() if not worker.joined]
        self._peers.tell_joined([index for _, index in joined], missing)
        if self._peers.links:
            if not self._peers.is_first:
                return
            missing = [f"{name} on host 0" for name in missing]
        joined += self._peers.joined
        missing += self._peers.missing
        if not joined or not missing:
            return
        since, index = min(joined)
        if now - since > self._start_timeout:
            many = len(missing) > 1
            self._fail(
                f"{' and '.join(missing)} {'have' if many else 'has'} not started TensorFlow "
                f"{self._start_timeout:g} s after worker {index} did (--start-timeout); check what "
                f"{'they wait' if many else 'it waits'} for"
            )

    def _check_stopped(self, now: float) -> None:
        for worker in self._running():
            if worker.state != "T":
                worker.stopped = 0.0
            elif not worker.stopped:
                worker.stopped = now
            elif now - worker.stopped > _STOPPED:
                sentence = f"{worker.name} has been stopped for {_STOPPED:g} s, by a SIGSTOP"
                self._fail(sentence, 128 + signal.SIGSTOP)
                worker.signal(signal.SIGKILL)

    def _check_leaving(self, now: float) -> None:
        """Let workers end together: a worker may still send data to its peers."""
        staying = [worker for worker in self._running() if not worker.left]
        waiting = [worker for worker in staying if worker.done]
        all_here = len(waiting) == len(staying)
        may_leave = all_here and self._peers.are_done()
        for worker in waiting:
            if may_leave or self._is_ending or now - worker.done > _LEAVING:
                worker.leave()

    def _check_peers(self, now: float) -> None:
        self._peers.beat(now)
        if self._peers.signal:
            self._take_signal(self._peers.signal)
        elif self._peers.lost and not all(worker.left for worker in self._workers):
            self._decide(AttemptOutcome(1, self._peers.lost, can_restart=True))
        elif self._peers.failing:
            self._end_after(_FAILING)

    def _first_failure(self) -> float:
        failed = [worker for worker in self._workers if worker.process.returncode]
        times = [worker.failed or worker.ended for worker in failed]
        # This host's own verdict precedes the failures on other hosts that follow from it.
        return min([*times, *([self._decided] if self._decided else [])], default=0.0)

    def _conclude(self) -> AttemptOutcome:
        for worker in self._workers:
            worker.drain()
        if self._outcome is not None:
            return self._outcome
        failed = [worker for worker in self._workers if worker.process.returncode]
        if not failed:
            return AttemptOutcome(0)
        if self._signal:
            return AttemptOutcome(128 + self._signal)
        self._peers.settle()
        if self._peers.lost and not self._peers.failing:
            # Its workers failed because of the loss, before the launcher detected it.
            return AttemptOutcome(1, self._peers.lost, can_restart=True)
        return _find_culprit(failed).outcome


def _find_culprit(failed: Sequence[Worker]) -> Worker:
    """Return the worker that failed first; of several with the same fault, the chief.

    All workers run the same script, and often fail in the same way at the same time. The chief's
    traceback has been shown already.
    """
    first = min(failed, key=lambda worker: worker.failed or worker.ended)
    alike = [worker for worker in failed if first.fault and worker.fault == first.fault]
    return min(alike or [first], key=lambda worker: worker.index)
