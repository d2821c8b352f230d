"""One worker writes for all: the chief, or the worker that the script chooses.

A script may save on some workers only (`if rank == 0: model.save(...)`). Then the others are
already further in the program, take part in no all-reduce of the writer, and need not wait for it.
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
    "SaveTarget",
    "is_recording",
    "single_writer",
    "single_writer_replacements",
    "skips_collectives",
    "without_collectives",
]

_HERE = threading.local()


@dataclass
class SaveTarget:
    """The place where a worker saves.

    Args:
        path: Where this worker writes.
        is_own: Whether it is the script's path, which is not removed afterwards.
        chosen: The script's path on the first worker that saves; known afterwards.
    """

    path: Any
    is_own: bool
    chosen: str


@contextmanager
def single_writer(path: Any, membership: Membership) -> Iterator[SaveTarget]:
    """Let one worker write for all; what others write is removed afterwards.

    The first worker that saves writes to the script's path. The others that save continue when
    the file is complete, because the script may read it next. A file written as a part of another
    save is placed with it.

    Args:
        path: The script's path.
        membership: This worker's place in the job.
    """
    if getattr(_HERE, "target", None) is not None:
        yield SaveTarget(path, is_own=True, chosen=os.fspath(path))
        return
    participation = begin_save(membership, os.fspath(path))
    with (
        _own_target(path, membership, is_writer=participation.is_writer) as target,
        _skipping_collectives(is_alone=not participation.is_complete),
    ):
        _HERE.target = target
        try:
            yield target
        except BaseException:
            abandon_save()
            raise
        finally:
            _HERE.target = None
    target.chosen = finish_save(participation, os.fspath(path))


def is_recording(membership: Membership) -> bool:
    """Say whether this worker keeps the list of saved files, and removes old ones.

    Args:
        membership: This worker's place in the job.
    """
    target: SaveTarget | None = getattr(_HERE, "target", None)
    return membership.index == 0 if target is None else target.is_own


@contextmanager
def _own_target(path: Any, membership: Membership, *, is_writer: bool) -> Iterator[SaveTarget]:
    text = os.fspath(path)
    if is_writer:
        yield SaveTarget(path, is_own=True, chosen=text)
        return
    with tempfile.TemporaryDirectory(dir=membership.scratch or None) as folder:
        elsewhere = os.path.join(folder, os.path.basename(text.rstrip("/")))
        yield SaveTarget(elsewhere, is_own=False, chosen=text)


@contextmanager
def _skipping_collectives(*, is_alone: bool) -> Iterator[None]:
    before, _HERE.is_alone = skips_collectives(), is_alone
    try:
        yield
    finally:
        _HERE.is_alone = before


def without_collectives(act: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that each worker can call by itself, whether or not the others do."""

    @functools.wraps(act)
    def act_alone(*args: Any, **kwargs: Any) -> Any:
        with _skipping_collectives(is_alone=True):
            return act(*args, **kwargs)

    return act_alone


def single_writer_replacements() -> Iterator[Replacement]:
    """Yield the replacements that skip collectives in a worker that writes alone.

    Those collectives sum the workers' counts, and broadcast a new variable's initial value.
    """
    from tensorflow.python.distribute.collective_all_reduce_strategy import (
        CollectiveAllReduceExtended,
    )
    from tensorflow.python.distribute.values import SyncOnReadVariable

    name = "_get_cross_replica"
    read = vars(SyncOnReadVariable)[name]
    yield Replacement(SyncOnReadVariable, name, _wrap_get_cross_replica(read))
    name = "_get_variable_creator_initial_value"
    begin = vars(CollectiveAllReduceExtended)[name]
    yield Replacement(CollectiveAllReduceExtended, name, _wrap_initial_value(begin))


def skips_collectives() -> bool:
    """Say whether this worker skips collectives, because no other worker takes part."""
    return getattr(_HERE, "is_alone", False)


def _wrap_get_cross_replica(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(read)
    def read_own_if_alone(self: Any) -> Any:
        return self._get_on_device_or_primary() if skips_collectives() else read(self)

    return read_own_if_alone


def _wrap_initial_value(begin: Callable[..., Any]) -> Callable[..., Any]:
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
            # `make` would consume a collective's key.
            return make_alone() if skips_collectives() else make()

        return make_value if replica_id == 0 else make

    return begin_alone
