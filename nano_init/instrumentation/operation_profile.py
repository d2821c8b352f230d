"""Sum TensorFlow's profile of some steps by operation, inside the profiled process."""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from typing import Any

__all__ = ["Profile", "add_up_operations", "find_unable"]

# The name of the executor's threads in a profile; tf.data has its own threads.
_COMPUTE = "tf_Compute"

# The event of a step that fetches its batch (tensorflow/core/kernels/data/iterator_ops.cc).
_GET_NEXT = "IteratorGetNextOp::DoCompute"


class Profile:
    """TensorFlow's profiler, active for some steps."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def is_on(self) -> bool:
        """Say whether the profiler runs."""
        return self._folder is not None

    def start(self) -> None:
        """Start the profiler."""
        from tensorflow.python.profiler import profiler_v2

        self._folder = tempfile.TemporaryDirectory(prefix="nano-run-profile-")
        profiler_v2.start(self._folder.name)

    def stop(self) -> dict[str, Any]:
        """Stop the profiler, and return the milliseconds of the operations."""
        from tensorflow.python.profiler import profiler_v2

        profiler_v2.stop()
        folder, self._folder = self._folder, None
        events: list[tuple[str, str, float]] = []
        if folder is not None:
            with folder as path:
                events = list(_read_events(path))
        operations = add_up_operations(events)
        return {
            "operations": operations,
            "get_next_ms": sum(ms for _, name, ms in events if name == _GET_NEXT),
            "unable": find_unable(operations),
        }


def add_up_operations(events: Iterable[tuple[str, str, float]]) -> dict[str, float]:
    """Return the milliseconds of each type of operation, most expensive first. Pure.

    Args:
        events: the thread's name, the event's name ("path/name:Type" for an operation) and its
            milliseconds.
    """
    totals: dict[str, float] = defaultdict(float)
    for line, name, milliseconds in events:
        _, colon, kind = name.rpartition(":")
        # "ExecutorState::Process" and the like are the executor's own, and contain the others.
        if colon and kind.isidentifier() and "::" not in name and line.startswith(_COMPUTE):
            totals[kind] += milliseconds
    return dict(sorted(totals.items(), key=lambda item: -item[1]))


def find_unable(operations: Collection[str]) -> list[str]:
    """Return the types of operations with a float32 CPU kernel, but no bfloat16 one.

    Args:
        operations: names of types.
    """
    from tensorflow.core.framework import types_pb2
    from tensorflow.python.framework import kernels

    unable = []
    for name in operations:
        dtypes = [
            set(constraint.allowed_values.list.type)
            for kernel in kernels.get_registered_kernels_for_op(name).kernel
            if kernel.device_type == "CPU"
            for constraint in kernel.constraint
            if constraint.name in ("T", "dtype", "SrcT")
        ]
        known = set().union(*dtypes) if dtypes else set()
        if types_pb2.DT_FLOAT in known and types_pb2.DT_BFLOAT16 not in known:
            unable.append(name)
    return unable


def _read_events(folder: str) -> Iterator[tuple[str, str, float]]:
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    for root, _, names in os.walk(folder):
        for name in names:
            if not name.endswith(".xplane.pb"):
                continue
            with open(os.path.join(root, name), "rb") as file:
                space = xplane_pb2.XSpace.FromString(file.read())
            for plane in space.planes:
                for line in plane.lines:
                    for event in line.events:
                        title = plane.event_metadata[event.metadata_id].name
                        yield line.name, title, event.duration_ps / 1e9
