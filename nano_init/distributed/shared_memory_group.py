"""All-reduce among the workers of one host, through shared memory.

A worker copies its data to its slot, one chunk at a time, and waits at a barrier. Then every slot
holds the same chunk. With two workers, or little data, each worker sums all slots itself. Otherwise
each worker sums a part of the chunk, and after another barrier all read each other's parts (a
reduce-scatter and an all-gather: Thakur, Rabenseifner, Gropp, "Optimization of Collective
Communication Operations in MPICH", 2005). Terms are added in the order of the workers, so sums are
bitwise equal on all workers and in every run.

Slots and notices exist twice. Data read after one barrier is overwritten only after the next
barrier, when all workers have read it.
"""

from __future__ import annotations

import atexit
import mmap
import os
import sys
import threading

import numpy as np

from nano_init.distributed.buffers import Buffers
from nano_init.distributed.chunks import divide
from nano_init.distributed.logical_clock import (
    is_at_later_collective,
    next_barrier,
    next_collective,
)
from nano_init.distributed.process_barrier import ProcessBarrier
from nano_init.distributed.save_consensus import Participation, SaveConsensus
from nano_init.errors import NanoError
from nano_init.protocol.shared_memory_layout import layout_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from nano_init.distributed.chunks import Pieces

__all__ = ["PeerLostError", "SharedMemoryGroup", "UnequalStepsError"]

_ALONE = 64 << 10  # up to this size, summing everything takes less time than another barrier

# The fields of a notice; kind and size exist twice.
_PID, _HAS_LEFT, _KIND, _SIZE, _CLOCK, _SAVES, _FIELDS = 0, 1, 2, 3, 6, 7, 8
_GATHER, _BROADCAST = 1, 2  # kinds from FIRST_KIND on are sums
_PATIENCE_SECONDS = 10.0  # seconds before a worker that saves reports whom it waits for


class PeerLostError(NanoError, RuntimeError):
    """Another worker has ended, so its data will never arrive."""


class UnequalStepsError(NanoError, RuntimeError):
    """The workers reached a barrier from different places in their programs."""


class SharedMemoryGroup:
    """One worker's end of the shared memory.

    Args:
        fd: A descriptor of the memory; it may be closed afterwards.
        index: This worker's local rank.
        workers: The number of workers.
        first: The index in the job of the first worker, for messages.
    """

    def __init__(self, fd: int, index: int, workers: int, first: int = 0) -> None:
        layout = layout_of(workers)
        memory = mmap.mmap(fd, layout.size)
        self._index, self._workers, self._first = index, workers, first
        self._chunk = layout.chunk
        self._bytes = np.frombuffer(memory, np.uint8)
        notices = self._bytes[layout.notices : layout.notices + 8 * _FIELDS * workers]
        self._notices = notices.view(np.int64).reshape(workers, _FIELDS)
        slots = self._bytes[layout.slot(0, 0) : layout.slot(0, 2)]
        self._slots = slots.reshape(2, workers, layout.chunk)
        self._sums = self._bytes[layout.sums : layout.sums + layout.chunk]
        self._barrier = ProcessBarrier(memory, layout, index, self._find_lost)
        self._buffers = Buffers()
        records = self._bytes[layout.saves : layout.saves + 16 * layout.records * workers]
        self._saves = SaveConsensus(
            index,
            records.view(np.int64).reshape(workers, layout.records, 2),
            self._notices[:, _SAVES],
            self._notices[:, _CLOCK],
            self._has_ended,
        )
        self._parity = self._time = self._before = 0
        self._lock = threading.Lock()
        self._notices[index, _PID] = os.getpid()
        atexit.register(self.leave)

    def leave(self) -> None:
        """Notify the others that this worker will take part in no further all-reduce."""
        if self._notices[self._index, _PID] == os.getpid():
            self._notices[self._index, _HAS_LEFT] = 1

    def begin_save(self, path: str, seconds: float) -> Participation:
        """Begin a save that others may skip, and wait until it is known who takes part.

        A worker skips it if it reaches something later, or has ended. After some seconds stderr
        reports the worker that is waited for.

        Args:
            path: The path of the save.
            seconds: The time after which this worker saves without the others.
        """

        def report(other: int) -> None:
            _report_waiting(self._index, other, path, seconds)

        with self._lock:
            return self._saves.begin_save(path, seconds, _PATIENCE_SECONDS, report)

    def finish_save(self) -> None:
        """Finish a save in which not all workers take part: wait until its file is complete."""
        with self._lock:
            self._saves.finish_save()

    def pass_collective(self, *, takes_all: bool = False) -> None:
        """Notify the others that this worker has reached a collective of TensorFlow.

        Args:
            takes_all: Whether it needs all workers to finish on any.

        Raises:
            PeerLostError: It needs all workers, and another one has ended.
        """
        with self._lock:
            self._advance(next_collective(self._time))
        error = self._find_ended() if takes_all else None
        if error is not None:
            raise error

    def _advance(self, time: int) -> None:
        self._time = self._notices[self._index, _CLOCK] = time

    def all_reduce(self, arrays: Sequence[NDArray[Any]], weight: Any = None) -> list[NDArray[Any]]:
        """Return the sums of arrays over all workers, bitwise equal on each.

        Args:
            arrays: Arrays of one floating dtype, of the same shapes on all workers.
            weight: A factor for this worker's arrays.

        Raises:
            PeerLostError: Another worker has ended.
            UnequalStepsError: Other workers sum something else.
        """
        dtype = arrays[0].dtype
        flat = [array.reshape(-1) for array in arrays]
        lengths = tuple(map(len, flat))
        chunks, kind = divide(lengths, self._chunk // dtype.itemsize)
        factor = None if weight is None else dtype.type(weight)
        with self._lock, np.errstate(all="ignore"):
            sums = self._buffers.take(lengths, dtype)
            slots, total = self._slots.view(dtype), self._sums.view(dtype)
            for pieces in chunks:
                self._put(pieces, flat, slots[self._parity, self._index], factor)
                self._add_chunk(pieces, slots[self._parity], total, sums, kind)
        return [whole.reshape(array.shape) for whole, array in zip(sums, arrays, strict=True)]

    def reduce_to_first(
        self, arrays: Sequence[NDArray[Any]], into: NDArray[Any], weight: Any = None
    ) -> None:
        """Write the sums of arrays over all workers to a vector of the first worker.

        Args:
            arrays: Vectors of one floating dtype, of the same lengths on all workers.
            into: The destination on the first worker, where the sums are concatenated.
            weight: A factor for this worker's arrays.

        Raises:
            PeerLostError: Another worker has ended.
            UnequalStepsError: Other workers sum something else.
        """
        dtype = arrays[0].dtype
        chunks, kind = divide(tuple(map(len, arrays)), self._chunk // dtype.itemsize)
        factor = None if weight is None else dtype.type(weight)
        with self._lock, np.errstate(all="ignore"):
            slots, total = self._slots.view(dtype), self._sums.view(dtype)
            start = 0
            for pieces in chunks:
                stop = start + sum(last - first for _, first, last, _ in pieces)
                terms = slots[self._parity]
                self._put(pieces, arrays, terms[self._index], factor)
                self._wait_alike(kind, stop - start)
                self._add_for_first(terms[:, : stop - start], total, into[start:stop], kind)
                start = stop

    def _add_for_first(
        self, terms: NDArray[Any], total: NDArray[Any], into: NDArray[Any], kind: int
    ) -> None:
        length = terms.shape[1]
        if self._workers == 2 or length * total.itemsize <= _ALONE:
            if self._index == 0:
                _add(terms, into)
            return
        first = length * self._index // self._workers
        last = length * (self._index + 1) // self._workers
        _add(terms[:, first:last], total[first:last])
        self._wait_alike(kind, length)
        if self._index == 0:
            np.copyto(into, total[:length])

    def broadcast(self, vector: NDArray[Any]) -> None:
        """Copy the first worker's vector to those of all others.

        Args:
            vector: The vector to read or write, of the same length and dtype on all workers.

        Raises:
            PeerLostError: Another worker has ended.
            UnequalStepsError: Other workers do something else.
        """
        chunk = self._chunk // vector.itemsize
        with self._lock:
            for start in range(0, max(vector.size, 1), chunk):
                piece = vector[start : start + chunk]
                place = self._slots.view(vector.dtype)[self._parity, 0, : piece.size]
                if self._index == 0:
                    np.copyto(place, piece)
                self._wait_alike(_BROADCAST, vector.size)
                if self._index > 0:
                    np.copyto(piece, place)

    def all_gather(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the rows of all workers' arrays, the first worker's first.

        Args:
            array: Any number of rows; each has the same shape on all workers.

        Raises:
            PeerLostError: Another worker has ended.
            UnequalStepsError: Other workers do something else.
        """
        own = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        with self._lock:
            start, rows = 0, own
            while True:
                slots, piece = self._slots[self._parity], own[start : start + self._chunk]
                slots[self._index, : piece.size] = piece
                sizes = self._wait(_GATHER, own.size)
                if start == 0:
                    (rows,) = self._buffers.take([sum(sizes)], own.dtype)
                self._take_rows(slots, sizes, start, rows)
                start += self._chunk
                if start >= max(sizes):
                    break
        return rows.view(array.dtype).reshape(-1, *array.shape[1:])

    def _take_rows(
        self, slots: NDArray[Any], sizes: Sequence[int], start: int, rows: NDArray[Any]
    ) -> None:
        first = 0
        for slot, size in zip(slots, sizes, strict=True):
            count = min(self._chunk, size - start)
            if count > 0:
                rows[first + start : first + start + count] = slot[:count]
            first += size

    def _put(
        self, pieces: Pieces, flat: Sequence[NDArray[Any]], slot: NDArray[Any], factor: Any
    ) -> None:
        for number, start, stop, at in pieces:
            place = slot[at : at + stop - start]
            if factor is None:
                np.copyto(place, flat[number][start:stop])
            else:
                np.multiply(flat[number][start:stop], factor, out=place)

    def _add_chunk(
        self,
        pieces: Pieces,
        slots: NDArray[Any],
        total: NDArray[Any],
        sums: Sequence[NDArray[Any]],
        kind: int,
    ) -> None:
        length = sum(stop - start for _, start, stop, _ in pieces)
        self._wait_alike(kind, length)
        if self._workers == 2 or length * total.itemsize <= _ALONE:
            for number, start, stop, at in pieces:
                _add(slots[:, at : at + stop - start], sums[number][start:stop])
            return
        first = length * self._index // self._workers
        last = length * (self._index + 1) // self._workers
        _add(slots[:, first:last], total[first:last])
        self._wait_alike(kind, length)
        for number, start, stop, at in pieces:
            np.copyto(sums[number][start:stop], total[at : at + stop - start])

    def _wait_alike(self, kind: int, size: int) -> None:
        if set(self._wait(kind, size)) != {size}:
            raise self._disagreement()

    def _wait(self, kind: int, size: int) -> list[int]:
        """Wait until all have reached this point, and return the size that each announced."""
        parity = self._parity
        self._parity = 1 - parity
        fields = slice(_KIND + 2 * parity, _SIZE + 2 * parity + 1)
        self._notices[self._index, fields] = kind, size
        self._before = self._time
        self._advance(next_barrier(self._time))
        self._barrier.wait(parity)
        given = self._notices[:, fields].tolist()
        if any(other != kind for other, _ in given):
            raise self._disagreement()
        return [size for _, size in given]

    def _disagreement(self) -> UnequalStepsError:
        return UnequalStepsError(
            f"nano-run: {self._name(self._index)} and its peers add up different things in one "
            "step: give all workers the same model and the same data, and let none skip a step"
        )

    def _find_lost(self) -> NanoError | None:
        """Return an error if a worker will never arrive, otherwise None; called while waiting."""
        for worker in range(self._workers):
            time = int(self._notices[worker, _CLOCK])
            if worker != self._index and is_at_later_collective(time, self._before):
                return UnequalStepsError(
                    f"nano-run: worker {worker} waits in predict, in a metric's result or in "
                    f"another collective of TensorFlow, which worker {self._index} has skipped: "
                    "let all workers call it, or none"
                )
        return self._find_ended()

    def _find_ended(self) -> PeerLostError | None:
        for worker in range(self._workers):
            if worker != self._index and self._has_ended(worker):
                return PeerLostError(
                    f"nano-run: {self._name(worker)} (process {self._notices[worker, _PID]}) has "
                    f"ended while {self._name(self._index)} waits for its part of a step"
                )
        return None

    def _name(self, worker: int) -> str:
        return f"worker {self._first + worker}"

    def _has_ended(self, worker: int) -> bool:
        pid = int(self._notices[worker, _PID])
        return bool(pid) and (bool(self._notices[worker, _HAS_LEFT]) or not _is_alive(pid))


def _report_waiting(index: int, other: int, path: str, seconds: float) -> None:
    print(
        f"nano-run: worker {index} saves {path!r} once worker {other} saves too, reaches its "
        f"next step or ends, or after {seconds:g} s (--start-timeout); a script should not wait "
        "for the file in between",
        file=sys.stderr,
        flush=True,
    )


def _add(terms: NDArray[Any], into: NDArray[Any]) -> None:
    np.add(terms[0], terms[1], out=into)
    for term in terms[2:]:
        np.add(into, term, out=into)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
