"""TensorFlow's own checkpoints, `tf.train.Checkpoint` and its manager, written by one worker only.

As with Keras's files, the other workers write to a scratch folder, because a checkpoint may read
variables in collectives. They get the writer's path, and continue when the checkpoint is complete.
The writer records which checkpoints exist, and which to delete.
"""

from __future__ import annotations

import copy
import functools
import os

from nano_init.distributed.job_strategy import job_strategy
from nano_init.distributed.single_writer import (
    is_recording,
    single_writer,
    without_collectives,
)
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.protocol.membership import Membership

__all__ = ["checkpoint_replacements"]


def checkpoint_replacements(membership: Membership) -> Iterator[Replacement]:
    """Yield the replacements that let only the chief write TensorFlow's checkpoints.

    Args:
        membership: This worker's place in the job.
    """
    import tensorflow as tf
    from tensorflow.python.checkpoint import checkpoint_management

    # `save`, `write` and the manager's `save` all call it (checkpoint.py).
    write = vars(tf.train.Checkpoint)["_write"]
    yield Replacement(tf.train.Checkpoint, "_write", _wrap_write(write, membership))
    # Counters start at 0 on all workers, and some workers may never save.
    name = "_maybe_create_save_counter"
    count = vars(tf.train.Checkpoint)[name]
    yield Replacement(tf.train.Checkpoint, name, without_collectives(count))
    if membership.index > 0:
        for name in ("update_checkpoint_state_internal", "_delete_file_if_exists"):
            act = vars(checkpoint_management)[name]
            yield Replacement(checkpoint_management, name, _wrap_management(act, membership))


def _wrap_management(act: Callable[..., Any], membership: Membership) -> Callable[..., Any]:
    @functools.wraps(act)
    def act_if_recording(*args: Any, **kwargs: Any) -> Any:
        if job_strategy() is None or is_recording(membership):
            return act(*args, **kwargs)
        return None

    return act_if_recording


def _wrap_write(write: Callable[..., Any], membership: Membership) -> Callable[..., Any]:
    @functools.wraps(write)
    def write_once(self: Any, file_prefix: Any, options: Any = None) -> Any:
        is_path = isinstance(file_prefix, (str, os.PathLike))
        is_apart = options is not None and options.experimental_enable_async_checkpoint
        if job_strategy() is None or not is_path or is_apart:
            return write(self, file_prefix, options)
        with single_writer(file_prefix, membership) as target:
            if target.is_own:
                return write(self, file_prefix, options)
            write(self, target.path, _without_callbacks(options))
        _call_back(options, target.chosen)
        return target.chosen

    return write_once


def _without_callbacks(options: Any) -> Any:
    if options is not None and options.experimental_write_callbacks:
        options = copy.copy(options)
        options.experimental_write_callbacks = None
    return options


def _call_back(options: Any, path: str) -> None:
    from tensorflow.python.checkpoint.checkpoint import _execute_callbacks

    if options is not None and options.experimental_write_callbacks:
        _execute_callbacks(options.experimental_write_callbacks, path)
