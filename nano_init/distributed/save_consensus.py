"""Agree on who takes part in a save, which a script may leave to some workers.

Such as `if rank == 0: model.save(...)`: nobody knows beforehand who comes to it. Each worker
records the saves that it comes to, where the others can read it, and waits until it is known of
each whether it takes part: it has recorded the same save, it has gone on to what comes after
(see `logical_clock`), or it has ended. A save is known by the name of its file, without the
digits in it, which may be a time or the worker's number.

Where two workers wait at different saves for each other, the one with the lowest number is let
go. Whoever comes later to a save that others have been let go from does as they did.
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

# A record: where the worker was, and the save's mark with what has become of it since.
_WHERE, _WHAT = 0, 1
_FLAG_BITS = 4
_DECIDED, _WHOLE, _WRITES, _WRITTEN = 1, 2, 4, 8
_LOOK_SECONDS = 0.001  # how often to look where the others are


@dataclass(frozen=True)
class Participation:
    """Who takes part in a save.

    Args:
        is_complete: All workers do.
        is_writer: This one has the lowest number of those that do.
    """

    is_complete: bool
    is_writer: bool


@dataclass(frozen=True)
class WorkerView:
    """What one worker has done since the last barrier, as another one sees it.

    Args:
        saves: The marks of saves that it has come to, and whether it was let go from each: None
            where not, else whether all took part.
        waits_at: The mark of the save that it waits at, if it does.
        is_gone: It comes to no further one, having gone on or ended.
    """

    saves: dict[int, bool | None]
    waits_at: int | None = None
    is_gone: bool = False


def decide(index: int, mark: int, workers: Sequence[WorkerView]) -> Participation | int:
    """Decide who takes part in a save.

    Args:
        index: The number of the worker that asks.
        mark: The save's mark.
        workers: What is seen of all workers, the one that asks among them.

    Returns:
        Who takes part; or, as long as that is open, the number of a worker to wait for.
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
    """One worker's saves among those of all.

    Args:
        index: This worker's number.
        records: Each worker's last records, in memory that all share.
        counts: How many records each worker has made.
        clocks: Each worker's logical clock.
        has_ended: Says whether a worker has ended.
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
        """Begin a save, and wait until all are known to take part or not to.

        Args:
            path: What is about to be saved.
            seconds: How long to wait for workers that do neither, before it goes on without.
            notice_after: After how many seconds to report whom this worker waits for.
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
        """Finish a save: note that the file is whole, or wait until it is."""
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
        self._mark = crc32(f"{times} {name}".encode()) | 1 << 32  # none is as empty memory
        record = self._records[self._index, count % self._records.shape[1]]
        record[_WHAT] = 0  # first, for the others may read it at any moment
        record[_WHERE] = where
        record[_WHAT] = self._mark << _FLAG_BITS
        self._counts[self._index] = count + 1

    def _note(self, flags: int) -> None:
        count = int(self._counts[self._index])
        self._records[self._index, (count - 1) % self._records.shape[1], _WHAT] |= flags

    def _look(self) -> list[WorkerView]:
        """Return what is seen of all workers at one moment."""
        workers = range(len(self._clocks))
        while True:
            # In this order: what a worker did before it ended or went on counts.
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
        """Wait while another worker writes what this save is about, or is about to write it."""
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
