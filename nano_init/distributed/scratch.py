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
from dataclasses import dataclass

from nano_init.distributed.all_reduce import abandon_save, begin_save, finish_save
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.protocol.membership import Membership

__all__ = [
    "Place",
    "alone_replacements",
    "does_alone",
    "is_recording",
    "without_collectives",
    "written_once",
]

_HERE = threading.local()


@dataclass
class Place:
    """Where a worker saves.

    Args:
        path: Where this worker writes.
        is_own: It is where the script wants it, and not removed afterwards.
        chosen: Where the script wants it on the first worker that saves; known afterwards.
    """

    path: Any
    is_own: bool
    chosen: str


@contextmanager
def written_once(path: Any, membership: Membership) -> Iterator[Place]:
    """Give the first worker that writes its path, and others one that is removed afterwards.

    Those that write go on when the file is whole, for the script may read it next. What is
    written as a part of something else is where that is.

    Args:
        path: Where the script wants to write.
        membership: This worker's place in the job.
    """
    if getattr(_HERE, "place", None) is not None:
        yield Place(path, is_own=True, chosen=os.fspath(path))
        return
    participation = begin_save(membership, os.fspath(path))
    with (
        _own_place(path, membership, is_writer=participation.is_writer) as place,
        _reading(is_alone=not participation.is_complete),
    ):
        _HERE.place = place
        try:
            yield place
        except BaseException:
            abandon_save()
            raise
        finally:
            _HERE.place = None
    place.chosen = finish_save(participation, os.fspath(path))


def is_recording(membership: Membership) -> bool:
    """Say whether this worker notes down what has been saved, and removes what is old.

    Args:
        membership: This worker's place in the job.
    """
    place: Place | None = getattr(_HERE, "place", None)
    return membership.index == 0 if place is None else place.is_own


@contextmanager
def _own_place(path: Any, membership: Membership, *, is_writer: bool) -> Iterator[Place]:
    text = os.fspath(path)
    if is_writer:
        yield Place(path, is_own=True, chosen=text)
        return
    with tempfile.TemporaryDirectory(dir=membership.scratch or None) as folder:
        elsewhere = os.path.join(folder, os.path.basename(text.rstrip("/")))
        yield Place(elsewhere, is_own=False, chosen=text)


@contextmanager
def _reading(*, is_alone: bool) -> Iterator[None]:
    before, _HERE.is_alone = does_alone(), is_alone
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


def does_alone() -> bool:
    """Say whether this worker does without collectives, as nobody else comes to them."""
    return getattr(_HERE, "is_alone", False)


def _reading_own_if_alone(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(read)
    def read_own_if_alone(self: Any) -> Any:
        return self._get_on_device_or_primary() if does_alone() else read(self)

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
            # `make` would use up a collective's key.
            return make_alone() if does_alone() else make()

        return make_value if replica_id == 0 else make

    return begin_alone
