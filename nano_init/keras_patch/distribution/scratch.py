"""Writing by one worker for all: the chief, or whom the script leaves it to.

A script may save on some workers only (`if rank == 0: model.save(...)`). Those others are then
at something else already, will not add up anything with the writer, and need not wait for it.
"""

from __future__ import annotations

import functools
import os
import tempfile
import threading
from contextlib import contextmanager

from nano_init.keras_patch.distribution.agreement import wait_for_all
from nano_init.keras_patch.distribution.sums import attend, note_collective
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.launch.membership import Membership

__all__ = ["alone_replacements", "without_collectives", "written_once"]

_HERE = threading.local()


@contextmanager
def written_once(path: Any, membership: Membership) -> Iterator[Any]:
    """Give the first worker that writes its path, and others one that is removed afterwards.

    Where all workers write, they go on when the file is whole, for the script may read it next.

    Args:
        path: Where the script wants to write.
        membership: This worker's place in the job.
    """
    attendance = attend(membership, os.fspath(path))
    with (
        _own_place(path, membership, is_writer=attendance.is_first) as place,
        _reading(is_alone=not attendance.is_whole),
    ):
        yield place
    if attendance.is_whole:
        wait_for_all()


@contextmanager
def _own_place(path: Any, membership: Membership, *, is_writer: bool) -> Iterator[Any]:
    if is_writer:
        yield path
        return
    with tempfile.TemporaryDirectory(dir=membership.scratch or None) as folder:
        yield os.path.join(folder, os.path.basename(os.fspath(path).rstrip("/")))


@contextmanager
def _reading(*, is_alone: bool) -> Iterator[None]:
    before, _HERE.is_alone = _is_alone(), is_alone
    try:
        yield
    finally:
        _HERE.is_alone = before


def without_collectives(act: Callable[..., Any]) -> Callable[..., Any]:
    """Return an act that each worker does by itself, whether or not the others do it too."""

    @functools.wraps(act)
    def act_alone(*args: Any, **kwargs: Any) -> Any:
        with _reading(is_alone=True):
            return act(*args, **kwargs)

    return act_alone


def alone_replacements() -> Iterator[Replacement]:
    """Yield what lets a worker that writes alone do without collectives, to which nobody came.

    They add up what workers have counted each, and send round a new variable's initial value.
    """
    from tensorflow.python.distribute.collective_all_reduce_strategy import (
        CollectiveAllReduceExtended,
    )
    from tensorflow.python.distribute.values import SyncOnReadVariable

    name = "_get_cross_replica"
    read = vars(SyncOnReadVariable)[name]
    yield Replacement(SyncOnReadVariable, name, _reading_own_if_alone(read))
    name = "_get_variable_creator_initial_value"
    begin = vars(CollectiveAllReduceExtended)[name]
    yield Replacement(CollectiveAllReduceExtended, name, _beginning_alone(begin))


def _is_alone() -> bool:
    return getattr(_HERE, "is_alone", False)


def _reading_own_if_alone(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(read)
    def read_own_if_alone(self: Any) -> Any:
        if _is_alone():
            return self._get_on_device_or_primary()
        _note_if_eager()
        return read(self)

    return read_own_if_alone


def _beginning_alone(begin: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(begin)
    def begin_alone(
        self: Any, replica_id: int, device: str, primary_var: Any, **kwargs: Any
    ) -> Any:
        make = begin(self, replica_id, device, primary_var, **kwargs)

        def make_alone() -> Any:
            import tensorflow as tf

            value = kwargs["initial_value"]
            value = value() if callable(value) else value
            value = getattr(value, "wrapped_value", value)  # of one that is restored at once
            with tf.device(device):
                return tf.convert_to_tensor(value, dtype=kwargs.get("dtype"))

        def make_value() -> Any:
            if _is_alone():
                return make_alone()  # `make` would use up a collective's key
            _note_if_eager()
            return make()

        return make_value if replica_id == 0 else make

    return begin_alone


def _note_if_eager() -> None:
    import tensorflow as tf

    if tf.executing_eagerly():
        note_collective()
