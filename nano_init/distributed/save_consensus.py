"""Agree on which workers take part in a save, which a script may leave to some workers.

With `if rank == 0: model.save(...)` it is unknown beforehand who will reach the save. Each worker
records the saves that it reaches where the others can read it. It waits until each other worker has
recorded the same save, has moved past it (see `logical_clock`), or has ended. A save is identified
by its file name without digits, since these may be a time or the worker's index.

If two workers wait for each other at different saves, the one with the lowest index is released. A
worker that reaches a save from which others were released acts as they did.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, replace
from zlib import crc32

from nano_init.distributed.logical_clock import is_later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from numpy.typing import NDArray

__all__ = ["Participation", "SaveConsensus", "WorkerView", "decide"]

# A record: the worker's time, the save's mark, and the state of the save.
_WHERE, _WHAT = 0, 1
_FLAG_BITS = 4
_DECIDED, _WHOLE, _WRITES, _WRITTEN = 1, 2, 4, 8
_LOOK_SECONDS = 0.001  # seconds between checks of the other workers


@dataclass(frozen=True)
class Participation:
    """The participation in a save.

    Args:
        is_complete: Whether all workers take part.
        is_writer: Whether this worker has the lowest index of those that take part.
    """

    is_complete: bool
    is_writer: bool


@dataclass(frozen=True)
class WorkerView:
    """A worker's saves since the last barrier, as another worker sees them.

    Args:
        saves: The marks of the saves that it has reached, each with None if it still waits there,
            or else whether all took part.
        waits_at: The mark of the save that it waits at, if any.
        is_gone: Whether it will reach no further save, because it has moved on or ended.
    """

    saves: dict[int, bool | None]
    waits_at: int | None = None
    is_gone: bool = False


def decide(index: int, mark: int, workers: Sequence[WorkerView]) -> Participation | int:
    """Decide who takes part in a save.

    Args:
        index: The index of the worker that asks.
        mark: The save's mark.
        workers: The state of all workers, including the one that asks.

    Returns:
        The participation; or, as long as it is undecided, the index of a worker to wait for.
    """
    parts = [i for i, seen in enumerate(workers) if mark in seen.saves]
    is_writer = index == parts[0]
    decided = [whole for i in parts if (whole := workers[i].saves[mark]) is not None]
    if decided:
        return Participation(all(decided), is_writer)
    rest = [i for i, seen in enumerate(workers) if i not in parts and not seen.is_gone]
    released = {m for seen in workers for m, whole in seen.saves.items() if whole is not None}
    for i in rest:
        if workers[i].waits_at is None or workers[i].waits_at in released:
            return i
    lowest = next(i for i, seen in enumerate(workers) if seen.waits_at is not None)
    if rest and workers[lowest].waits_at != mark:
        return lowest
    return Participation(len(parts) == len(workers), is_writer)


class SaveConsensus:
    """One worker's view of the saves of all workers.

    Args:
        index: This worker's index.
        records: Each worker's last records, in shared memory.
        counts: The number of records of each worker.
        clocks: Each worker's logical clock.
        has_ended: Returns whether a worker has ended.
    """

    def __init__(
        self,
        index: int,
        records: NDArray[Any],
        counts: NDArray[Any],
        clocks: NDArray[Any],
        has_ended: Callable[[int], bool],
    ) -> None:
        self._index, self._has_ended = index, has_ended
        self._records, self._counts, self._clocks = records, counts, clocks
        self._where, self._mark = -1, 0
        self._times: dict[str, int] = {}
        self._participation = Participation(is_complete=False, is_writer=False)

    def begin_save(
        self, path: str, seconds: float, notice_after: float, report: Callable[[int], None]
    ) -> Participation:
        """Begin a save, and wait until the participation of all workers is decided.

        Args:
            path: The path of the save.
            seconds: The time to wait for undecided workers before continuing without them.
            notice_after: The time in seconds after which to report whom this worker waits for.
            report: Reports the worker that is waited for.
        """
        self._record(path)
        begun, has_reported = time.monotonic(), False
        while True:
            seen, waited = self._look(), time.monotonic() - begun
            seen = [self._given_up(s) for s in seen] if waited > seconds else seen
            answer = decide(self._index, self._mark, seen)
            if isinstance(answer, Participation):
                break
            if waited > notice_after and not has_reported:
                has_reported = True
                report(answer)
            time.sleep(_LOOK_SECONDS)
        self._participation = answer
        self._note(_DECIDED | _WRITES * answer.is_writer | _WHOLE * answer.is_complete)
        if answer.is_writer and not answer.is_complete:
            self._wait_while_written()
        return answer

    def finish_save(self) -> None:
        """Finish a save: record that the file is complete, or wait until it is."""
        if self._participation.is_writer:
            self._note(_WRITTEN)
        elif not self._participation.is_complete:
            self._wait_while_written()

    def _record(self, path: str) -> None:
        where, count = int(self._clocks[self._index]), int(self._counts[self._index])
        if where != self._where:
            self._where, self._times = where, {}
        name = re.sub(r"\d+", "", os.path.basename(path.rstrip("/")))
        self._times[name] = times = self._times.get(name, 0) + 1
        self._mark = crc32(f"{times} {name}".encode()) | 1 << 32  # 0 is empty memory
        record = self._records[self._index, count % self._records.shape[1]]
        record[_WHAT] = 0  # first, because the others may read it at any moment
        record[_WHERE] = where
        record[_WHAT] = self._mark << _FLAG_BITS
        self._counts[self._index] = count + 1

    def _note(self, flags: int) -> None:
        count = int(self._counts[self._index])
        self._records[self._index, (count - 1) % self._records.shape[1], _WHAT] |= flags

    def _look(self) -> list[WorkerView]:
        """Return the state of all workers at one moment."""
        workers = range(len(self._clocks))
        while True:
            # In this order, because what a worker did before it ended or moved on counts.
            has_ended = [w != self._index and self._has_ended(w) for w in workers]
            clocks = self._clocks.tolist()
            counts = self._counts.tolist()
            records = self._records.copy()
            if self._is_still_so(counts, records):
                break
        return [
            self._seen(records[w].tolist(), counts[w], has_ended[w] or self._is_gone(clocks[w]))
            for w in workers
        ]

    def _is_still_so(self, counts: Sequence[int], records: NDArray[Any]) -> bool:
        return self._counts.tolist() == counts and bool((self._records == records).all())

    def _is_gone(self, clock: int) -> bool:
        return is_later(clock, self._where)

    def _seen(self, records: Sequence[Sequence[int]], count: int, is_gone: bool) -> WorkerView:
        saves = {
            what >> _FLAG_BITS: bool(what & _WHOLE) if what & _DECIDED else None
            for where, what in records
            if where == self._where and what
        }
        where, last = records[(count - 1) % len(records)]
        is_waiting = where == self._where and last and not last & _DECIDED and not is_gone
        return WorkerView(saves, last >> _FLAG_BITS if is_waiting else None, is_gone)

    def _given_up(self, seen: WorkerView) -> WorkerView:
        return seen if self._mark in seen.saves else replace(seen, waits_at=None, is_gone=True)

    def _wait_while_written(self) -> None:
        """Wait while another worker writes this save, or is about to write it."""
        others = [w for w in range(len(self._clocks)) if w != self._index]
        while True:
            has_ended = {w: self._has_ended(w) for w in others}
            flags = [(w, f) for w in others if (f := self._flags(w)) is not None]
            is_written = any(f & _WRITTEN for _, f in flags)
            pending = [
                w for w, f in flags if not f & _DECIDED or f & (_WRITES | _WRITTEN) == _WRITES
            ]
            if is_written or all(has_ended[w] for w in pending):
                return
            time.sleep(_LOOK_SECONDS)

    def _flags(self, worker: int) -> int | None:
        for where, what in self._records[worker].tolist():
            if where == self._where and what >> _FLAG_BITS == self._mark:
                return int(what) & (1 << _FLAG_BITS) - 1
        return None
