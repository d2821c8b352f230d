"""Two-level all-reduce over the workers of several hosts.

The workers of a host reduce through shared memory. The first of them, the host's leader,
all-reduces the sum with the other leaders (`host_ring`), and broadcasts the result to its peers
through shared memory. So the traffic on a host's link does not depend on the number of workers per
host. All workers get the same bits, because all leaders do.

A long sum is pipelined in segments. While some are in transit between the hosts, later ones are
reduced and earlier ones broadcast.
"""

from __future__ import annotations

import numpy as np

from nano_init.distributed.buffers import Buffers
from nano_init.distributed.chunks import divide
from nano_init.distributed.shared_memory_group import PeerLostError
from nano_init.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from nano_init.distributed.host_ring import HostRing
    from nano_init.distributed.shared_memory_group import SharedMemoryGroup
    from nano_init.keras_patch.tensor_types import DType, Tensor

__all__ = ["HostSums"]

_SEGMENT = 1 << 18  # in numbers
_MOST_SEGMENTS = 256


@frozen
class _Segment:
    """A part of the concatenated tensors.

    Args:
        start: its first index among all elements.
        stop: the index after its last element.
        tensors: the indices of the tensors that it has parts of.
        pieces: for each of them, where its part begins and ends.
    """

    start: int
    stop: int
    tensors: tuple[int, ...]
    pieces: tuple[tuple[int, int], ...]

    def cut(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the segment's parts of the tensors' values."""
        return [
            arrays[number].reshape(-1)[first:last]
            for number, (first, last) in zip(self.tensors, self.pieces, strict=True)
        ]

    def of(self, vector: NDArray[Any]) -> NDArray[Any]:
        """Return the segment's part of the concatenated values."""
        return vector[self.start : self.stop]


class HostSums:
    """One worker's part in a two-level all-reduce.

    Args:
        group: Its end of its host's shared memory; None if it is the only worker there.
        ring: Its host's end of the ring of hosts, if it is the leader; otherwise None.
    """

    def __init__(self, group: SharedMemoryGroup | None, ring: HostRing | None) -> None:
        self._group = group
        self._ring = ring
        self._buffers = Buffers()

    def sum(
        self, tensors: Sequence[Tensor], weight: Tensor | None, *, compress: bool
    ) -> list[Tensor]:
        """Return sums over all workers; all must call it in a replica, in the same order.

        Args:
            tensors: Tensors of float32 or of float64, with known shapes, equal on all workers.
            weight: A float64 scalar that multiplies this worker's tensors, or None.
            compress: Whether to send float32 tensors between hosts as bfloat16.
        """
        import tensorflow as tf

        sizes = [tensor.shape.num_elements() for tensor in tensors]
        if not any(sizes):
            return list(tensors)
        segments = _divide_into_segments(sizes)
        dtype = tensors[0].dtype
        wire = tf.bfloat16.as_numpy_dtype if compress and dtype == tf.float32 else None

        def add_up(*arrays: Any) -> Any:
            given, factor = arrays[: len(sizes)], arrays[len(sizes) :]
            scale = given[0].dtype.type(factor[0]) if factor else None
            (whole,) = self._buffers.take([segments[-1].stop], given[0].dtype)
            if self._ring is not None:
                self._lead(self._ring, given, scale, segments, whole, wire)
            elif self._group is not None:
                _follow(self._group, given, scale, segments, whole)
            else:
                raise PeerLostError("nano-run: the first worker of a host needs its connections")
            return whole

        whole = _call(add_up, [*tensors, *([] if weight is None else [weight])], dtype)
        parts = tf.split(whole, sizes) if len(sizes) > 1 else [whole]
        return [tf.reshape(p, t.shape) for p, t in zip(parts, tensors, strict=True)]

    def _lead(
        self,
        ring: HostRing,
        given: Sequence[NDArray[Any]],
        scale: Any,
        segments: Sequence[_Segment],
        whole: NDArray[Any],
        wire: Any,
    ) -> None:
        sent = whole if wire is None else self._buffers.take([whole.size], wire)[0]
        bounds = [(segment.start, segment.stop) for segment in segments]
        with ring.open_sum(sent, bounds) as between:
            for number, segment in enumerate(segments):
                self._reduce(segment.cut(given), segment.of(whole), scale)
                if sent is not whole:
                    np.copyto(segment.of(sent), segment.of(whole), casting="same_kind")
                between.give(number)
            for segment in segments:
                between.wait()
                if sent is not whole:
                    np.copyto(segment.of(whole), segment.of(sent))
                if self._group is not None:
                    self._group.broadcast(segment.of(whole))

    def _reduce(self, parts: Sequence[NDArray[Any]], into: NDArray[Any], scale: Any) -> None:
        """Write the sums of a segment over the workers of this host."""
        if self._group is not None:
            self._group.reduce_to_first(parts, into, scale)
            return
        start = 0
        for part in parts:
            place = into[start : start + part.size]
            if scale is None:
                np.copyto(place, part)
            else:
                np.multiply(part, scale, out=place)
            start += part.size


def _follow(
    group: SharedMemoryGroup,
    given: Sequence[NDArray[Any]],
    scale: Any,
    segments: Sequence[_Segment],
    whole: NDArray[Any],
) -> None:
    for segment in segments:
        group.reduce_to_first(segment.cut(given), segment.of(whole), scale)
    for segment in segments:
        group.broadcast(segment.of(whole))


def _divide_into_segments(sizes: Sequence[int]) -> list[_Segment]:
    total = sum(sizes)
    length = max(_SEGMENT, -(-total // _MOST_SEGMENTS // 16) * 16)
    chunks, _ = divide(tuple(sizes), length)
    segments, start = [], 0
    for pieces in chunks:
        stop = start + sum(last - first for _, first, last, _ in pieces)
        tensors = tuple(number for number, _, _, _ in pieces)
        bounds = tuple((first, last) for _, first, last, _ in pieces)
        segments.append(_Segment(start, stop, tensors, bounds))
        start = stop
    return segments


def _call(act: Callable[..., Any], tensors: Sequence[Tensor], dtype: DType) -> Tensor:
    """Return the result of a function of arrays, a vector; in a graph through an operation."""
    import tensorflow as tf

    if tf.executing_eagerly():
        return tf.convert_to_tensor(act(*(tensor.numpy() for tensor in tensors)))
    answer = tf.numpy_function(act, tensors, dtype, stateful=True)
    answer.set_shape([None])
    return answer
