"""Two-level all-reduce over the workers of several hosts.

The workers of a host reduce through shared memory. The first of them, the host's leader,
all-reduces the sum with the other leaders through TensorFlow's collective, and broadcasts the
result to its peers through shared memory. So the traffic on a host's link does not depend on the
number of workers per host. All workers get the same bits, because all leaders do.

A long sum is pipelined in segments. While some are in transit between the hosts, later ones are
reduced and earlier ones broadcast.
"""

from __future__ import annotations

import numpy as np

from nano_init.distributed.buffers import Buffers
from nano_init.distributed.chunks import divide
from nano_init.frozen import frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from nano_init.distributed.shared_memory_group import SharedMemoryGroup
    from nano_init.keras_patch.tensor_types import DType, Tensor

__all__ = ["HostSums"]

# TensorFlow numbers its own groups from 1 (cross_device_utils.py, `CollectiveKeys`).
_FIRST_GROUP = 1 << 20
# In numbers; a multiple of 16, so that segments have the alignment that TensorFlow requires.
_SEGMENT = 1 << 19
_MOST_SEGMENTS = 64
_LANES = 6  # segments in transit at once, each in its own group


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
            array.reshape(-1)[first:last]
            for array, (first, last) in zip(arrays, self.pieces, strict=False)
        ]


class HostSums:
    """One worker's part in a two-level all-reduce.

    Args:
        group: Its end of its host's shared memory; None if it is the only worker there.
        is_leader: Whether it communicates with the other hosts.
        hosts: The number of hosts.
    """

    def __init__(self, group: SharedMemoryGroup | None, *, is_leader: bool, hosts: int) -> None:
        self._group = group
        self._is_leader = is_leader
        self._hosts = hosts
        self._lanes: list[Any] = []
        self._buffers = Buffers()
        self._own: Any = None
        self._whole: Any = None

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
        if self._group is None:
            whole = self._sum_alone(tensors, weight, segments, compress=compress)
        elif self._is_leader:
            whole = self._lead(self._group, tensors, weight, segments, compress=compress)
        else:
            whole = self._follow(self._group, tensors, weight, segments)
        parts = tf.split(whole, sizes) if len(sizes) > 1 else [whole]
        return [tf.reshape(p, t.shape) for p, t in zip(parts, tensors, strict=True)]

    def _follow(
        self,
        group: SharedMemoryGroup,
        tensors: Sequence[Tensor],
        weight: Tensor | None,
        segments: Sequence[_Segment],
    ) -> Tensor:
        def give_and_take(*arrays: Any) -> Any:
            given, factor = arrays[: len(tensors)], arrays[len(tensors) :]
            (whole,) = self._buffers.take([segments[-1].stop], given[0].dtype)
            for segment in segments:
                part = segment.cut([given[i] for i in segment.tensors])
                group.reduce_to_first(part, whole, *factor)
            for segment in segments:
                group.broadcast(whole[segment.start : segment.stop])
            return whole

        return _call(give_and_take, [*tensors, *_listed(weight)], tensors[0].dtype)

    def _lead(
        self,
        group: SharedMemoryGroup,
        tensors: Sequence[Tensor],
        weight: Tensor | None,
        segments: Sequence[_Segment],
        *,
        compress: bool,
    ) -> Tensor:
        import tensorflow as tf

        dtype = tensors[0].dtype
        totals: list[Tensor] = []
        before: list[Tensor] = []
        for segment in segments:
            add = self._adding(group, segment, segments[-1].stop)
            sent = [*(tensors[i] for i in segment.tensors), *_listed(weight)]
            with tf.control_dependencies(before):
                own = _call(add, sent, dtype)
            before = [own]
            totals.append(self._exchange(own, len(totals), compress=compress))
        for segment, total in zip(segments, totals, strict=True):
            with tf.control_dependencies(before):
                whole = _call(self._publishing(group, segment, segments), [total], dtype)
            before = [whole]
        return whole

    def _adding(
        self, group: SharedMemoryGroup, segment: _Segment, length: int
    ) -> Callable[..., Any]:
        def add(*arrays: Any) -> Any:
            count = len(segment.tensors)
            if segment.start == 0:
                self._own, self._whole = self._buffers.take([length, length], arrays[0].dtype)
            own = self._own[segment.start : segment.stop]
            group.reduce_to_first(segment.cut(arrays[:count]), own, *arrays[count:])
            return own

        return add

    def _publishing(
        self, group: SharedMemoryGroup, segment: _Segment, segments: Sequence[_Segment]
    ) -> Callable[..., Any]:
        def publish(total: Any) -> Any:
            group.broadcast(total)
            if len(segments) == 1:
                return total
            np.copyto(self._whole[segment.start : segment.stop], total)
            if segment is not segments[-1]:
                return total[:0]
            whole, self._own, self._whole = self._whole, None, None
            return whole

        return publish

    def _sum_alone(
        self,
        tensors: Sequence[Tensor],
        weight: Tensor | None,
        segments: Sequence[_Segment],
        *,
        compress: bool,
    ) -> Tensor:
        import tensorflow as tf

        parts = [tf.reshape(tensor, [-1]) for tensor in tensors]
        whole = tf.concat(parts, 0) if len(parts) > 1 else parts[0]
        if weight is not None:
            whole *= tf.cast(weight, whole.dtype)
        if len(segments) == 1:
            return self._exchange(whole, 0, compress=compress)
        totals = [
            self._exchange(whole[segment.start : segment.stop], number, compress=compress)
            for number, segment in enumerate(segments)
        ]
        return tf.concat(totals, 0)

    def _exchange(self, own: Tensor, number: int, *, compress: bool) -> Tensor:
        """All-reduce over the leaders; the collectives of one lane run in sequence."""
        import tensorflow as tf

        if not self._lanes:
            self._lanes = _make_lanes(self._hosts)
        is_narrow = compress and own.dtype == tf.float32
        sent = tf.cast(own, tf.bfloat16) if is_narrow else own
        return tf.cast(self._lanes[number % _LANES].all_reduce(sent), own.dtype)


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


def _listed(weight: Tensor | None) -> list[Tensor]:
    return [] if weight is None else [weight]


def _call(act: Callable[..., Any], tensors: Sequence[Tensor], dtype: DType) -> Tensor:
    """Return the result of a function of arrays, a vector; in a graph through an operation."""
    import tensorflow as tf

    if tf.executing_eagerly():
        return tf.convert_to_tensor(act(*(tensor.numpy() for tensor in tensors)))
    answer = tf.numpy_function(act, tensors, dtype, stateful=True)
    answer.set_shape([None])
    return answer


def _make_lanes(hosts: int) -> list[Any]:
    """Return launchers of collectives for the leaders only: groups with their own keys.

    `CollectiveAllReduceExtended._make_collective_launchers` creates one for all workers.
    """
    from tensorflow.python.distribute import cross_device_utils

    from nano_init.distributed.job_strategy import job_strategy

    extended = job_strategy().extended
    (device,) = extended.worker_devices
    lanes = []
    for number in range(_LANES):
        keys = cross_device_utils.CollectiveKeys(_FIRST_GROUP + number)
        group = keys.get_group_key([device])
        lanes.append(
            cross_device_utils.CollectiveReplicaLauncher(
                group, hosts, keys, device, extended._communication_options
            )
        )
    return lanes
