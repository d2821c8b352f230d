"""All-reduce inside a step: through shared memory on one host, otherwise by TensorFlow.

TensorFlow's collectives between processes use gRPC, even on one host. If all workers share memory,
dense floating tensors and the rows of sparse ones go through that memory, in one operation that
calls Python. On several hosts, dense floating tensors are summed on each host first (`host_sums`).
XLA can compile neither, so steps under XLA and integers use TensorFlow's collectives. The choice is
the same on all workers.
"""

from __future__ import annotations

import os
import threading

from nano_init.distributed.sum_message import (
    SumMessage,
    cast,
    pack,
    unpack,
    weighted,
    widened,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from nano_init.distributed.host_ring import HostRing
    from nano_init.distributed.host_sums import HostSums
    from nano_init.distributed.save_consensus import Participation
    from nano_init.distributed.shared_memory_group import SharedMemoryGroup
    from nano_init.keras_patch.tensor_types import IndexedSlices, Tensor
    from nano_init.protocol.membership import Membership

__all__ = [
    "abandon_save",
    "all_reduce",
    "all_reduce_scalar",
    "begin_save",
    "finish_save",
    "note_collective",
    "open_group",
]

_LOCK = threading.Lock()
_group: SharedMemoryGroup | None = None
_levels: HostSums | None = None
_order: Any = None


def all_reduce(
    values: Sequence[Tensor | IndexedSlices],
    weight: Tensor | None = None,
    *,
    compress: bool = False,
) -> list[Tensor | IndexedSlices]:
    """All-reduce tensors; all workers must call it in a replica, in the same order.

    Args:
        values: Tensors or `IndexedSlices`; dense ones have the same shapes on all workers.
        weight: A scalar that multiplies this worker's values, or None.
        compress: Whether to send dense float32 tensors between hosts as bfloat16.

    Returns:
        The sums. For `IndexedSlices`, the rows of all workers in the order of the workers.
    """
    group, host_sums = _shared_group(), _host_sums()
    if group is not None:
        through = [i for i, value in enumerate(values) if _is_floating(value)]
        found = _sum_in_memory([values[i] for i in through], weight, group)
    elif host_sums is not None:
        through = [i for i, value in enumerate(values) if _is_dense_floating(value)]
        found = _sum_on_hosts([values[i] for i in through], weight, host_sums, compress=compress)
    else:
        return _sum_by_collectives(values, weight, compress=compress)
    sums = dict(zip(through, found, strict=True))
    rest = [i for i in range(len(values)) if i not in sums]
    if rest:
        others = _sum_by_collectives([values[i] for i in rest], weight, compress=compress)
        sums.update(zip(rest, others, strict=True))
    return [sums[i] for i in range(len(values))]


def all_reduce_scalar(value: float) -> float:
    """Return the sum of one number per worker; all must call it, outside of steps."""
    import numpy as np
    import tensorflow as tf
    from tensorflow.python.eager import context

    from nano_init.distributed.job_strategy import job_strategy

    group = _shared_group()
    if group is None:
        return float(job_strategy().reduce("SUM", tf.constant(value), axis=None))

    context.async_wait()  # for the steps before it, if execution is asynchronous
    return float(group.all_reduce([np.array([value])])[0][0])


def open_group() -> None:
    """Notify the others that this worker has started, so that they detect its end."""
    _shared_group()
    _host_sums()


def begin_save(membership: Membership, path: str) -> Participation:
    """Begin a save that a script may leave to some workers, outside of steps.

    With shared memory a worker can see who takes part. Without it, all must take part.

    Args:
        membership: This worker's place in the job.
        path: The path of the save, for a report if this worker has to wait for the others.
    """
    from tensorflow.python.eager import context

    from nano_init.distributed.save_consensus import Participation

    group = _shared_group()
    if group is None:
        return Participation(is_complete=True, is_writer=membership.index == 0)
    context.async_wait()
    return group.begin_save(path, membership.start_timeout)


def abandon_save() -> None:
    """End a save that failed here, so that the others continue or fail too."""
    group = _shared_group()
    if group is not None:
        group.finish_save()


def finish_save(participation: Participation, path: str) -> str:
    """Finish a save: return when its file is complete.

    Args:
        participation: The participation in the save.
        path: The path of this worker's save.

    Returns:
        The path of the first worker's save, as far as it is known.
    """
    import numpy as np

    group = _shared_group()
    if group is None:
        all_reduce_scalar(1.0)
        return path
    group.finish_save()
    if not participation.is_complete:
        return path
    chosen = os.fsencode(path) if participation.is_writer else b""
    return os.fsdecode(group.all_gather(np.frombuffer(chosen, np.uint8)).tobytes())


def note_collective(*, takes_all: bool) -> None:
    """Notify the others that this worker has reached one of TensorFlow's own collectives.

    Args:
        takes_all: Whether it needs all workers to finish on any.

    Raises:
        PeerLostError: It needs all workers, and another one has ended.
    """
    group = _shared_group()
    if group is not None:
        group.pass_collective(takes_all=takes_all)


def _shared_group() -> SharedMemoryGroup | None:
    """Return this worker's end of the memory that all workers share, or None."""
    from nano_init.distributed.worker_startup import current_membership

    membership = current_membership()
    if membership is None or membership.hosts != 1 or _is_for_xla():
        return None
    return _open_memory(membership)


def _host_sums() -> HostSums | None:
    """Return this worker's part in two-level sums, or None."""
    global _levels
    from nano_init.distributed.worker_startup import current_membership

    membership = current_membership()
    if membership is None or membership.hosts < 2 or _is_for_xla():
        return None
    group = _open_memory(membership)
    with _LOCK:
        if _levels is None:
            from nano_init.distributed.host_sums import HostSums

            _levels = HostSums(group, _open_ring(membership))
    return _levels


def _is_for_xla() -> bool:
    import tensorflow as tf
    from tensorflow.python.framework import ops
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

    return not tf.executing_eagerly() and GraphOrParentsInXlaContext(ops.get_default_graph())


def _open_memory(membership: Membership) -> SharedMemoryGroup | None:
    global _group
    if membership.memory_fd < 0:
        return None
    with _LOCK:
        if _group is None:
            from nano_init.distributed.shared_memory_group import SharedMemoryGroup

            first = membership.index - membership.local
            _group = SharedMemoryGroup(
                membership.memory_fd, membership.local, membership.local_workers, first
            )
            os.close(membership.memory_fd)
    return _group


def _open_ring(membership: Membership) -> HostRing | None:
    """Return this host's end of the ring of hosts, or None if this worker is not the leader."""
    if membership.incoming_fd < 0:
        return None
    import socket

    from nano_init.distributed.host_ring import HostRing

    incoming, outgoing = (
        socket.socket(fileno=fd) for fd in (membership.incoming_fd, membership.outgoing_fd)
    )
    return HostRing(incoming, outgoing, membership.host, membership.hosts)


def _is_floating(value: Tensor | IndexedSlices) -> bool:
    return bool(value.dtype.is_floating)


def _is_dense_floating(value: Tensor | IndexedSlices) -> bool:
    import tensorflow as tf

    is_dense = not isinstance(value, tf.IndexedSlices) and value.shape.is_fully_defined()
    return _is_floating(value) and is_dense


def _sum_by_collectives(
    values: Sequence[Tensor | IndexedSlices], weight: Tensor | None, *, compress: bool
) -> list[Tensor | IndexedSlices]:
    import tensorflow as tf

    dtypes = [value.dtype for value in values]
    sent = [weighted(value, weight) for value in values]
    if compress:
        sent = [_narrowed(value) for value in sent]
    replica = tf.distribute.get_replica_context()
    sums: list[Tensor | IndexedSlices] = list(sent)
    # TensorFlow concatenates all values to one vector, so they must have one dtype.
    for dtype in dict.fromkeys(value.dtype for value in sent):
        places = [i for i, value in enumerate(sent) if value.dtype == dtype]
        totals = replica.all_reduce(tf.distribute.ReduceOp.SUM, [sent[i] for i in places])
        for place, total in zip(places, totals, strict=True):
            sums[place] = total
    return [cast(value, dtype) for value, dtype in zip(sums, dtypes, strict=True)]


def _narrowed(value: Tensor | IndexedSlices) -> Tensor | IndexedSlices:
    import tensorflow as tf

    is_dense = isinstance(value, tf.Tensor) and value.dtype == tf.float32
    return tf.cast(value, tf.bfloat16) if is_dense else value


def _sum_in_memory(
    values: Sequence[Tensor | IndexedSlices], weight: Tensor | None, group: SharedMemoryGroup
) -> list[Tensor | IndexedSlices]:
    """All-reduce floating values in one operation; half precision is summed in float32."""
    import tensorflow as tf

    if not values:
        return []
    message = SumMessage(values, weight)

    def reduce_all(*arrays: Any) -> list[Any]:
        return message.answer(arrays, group)

    if tf.executing_eagerly():
        arrays = reduce_all(*(tensor.numpy() for tensor in message.tensors))
        return message.unpack([tf.convert_to_tensor(array) for array in arrays])
    answers = _in_order(
        lambda: tf.numpy_function(reduce_all, message.tensors, message.dtypes, stateful=True)
    )
    return message.unpack(answers)


def _sum_on_hosts(
    values: Sequence[Tensor], weight: Tensor | None, host_sums: HostSums, *, compress: bool
) -> list[Tensor]:
    """All-reduce floating tensors per host, then over the hosts; half precision in float32."""
    import tensorflow as tf

    packs = pack([(i, widened(value)) for i, value in enumerate(values)])
    factor = None if weight is None else tf.cast(weight, tf.float64)
    sums = list(values)
    for dtype in dict.fromkeys(tensor.dtype for _, tensor in packs):
        chosen = [(numbers, tensor) for numbers, tensor in packs if tensor.dtype == dtype]
        sent = [tensor for _, tensor in chosen]

        def add_up(sent: Sequence[Tensor] = sent) -> list[Tensor]:
            return host_sums.sum(sent, factor, compress=compress)

        totals = add_up() if tf.executing_eagerly() else _in_order(add_up)
        for (numbers, _), total in zip(chosen, totals, strict=True):
            for i, part in unpack(numbers, total, values):
                sums[i] = cast(part, values[i].dtype)
    return sums


def _in_order(act: Callable[[], Sequence[Tensor]]) -> Sequence[Tensor]:
    """Create an operation that runs in program order, like those of the peers.

    TensorFlow orders operations on the same variable (auto_control_deps.py), across nested
    functions and loops. It orders its collectives in the same way
    (tensorflow/python/distribute/cross_device_utils.py, `_get_ordering_token`).
    """
    global _order
    import tensorflow as tf
    from tensorflow.python.ops.resource_variable_ops import ResourceVariable

    if _order is None:
        with tf.init_scope():
            _order = ResourceVariable(0.0)
    # Raw operations, so that no tape and no custom gradient sees a variable here.
    handle = _order.handle
    with tf.control_dependencies([tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32)]):
        answers = act()
    with tf.control_dependencies([answers[0]]):
        tf.raw_ops.AssignVariableOp(resource=handle, value=tf.constant(0.0))
    return answers
