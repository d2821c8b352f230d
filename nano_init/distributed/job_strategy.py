"""The strategy of a job, and the scope in which the program creates variables and models.

`strategy_creation` creates it when TensorFlow is first used.
"""

from __future__ import annotations

import contextlib
import functools
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from nano_init.keras_patch.tensor_types import Strategy

__all__ = [
    "adopt_strategy",
    "in_scope_of_job",
    "is_in_replica",
    "is_job_strategy",
    "job_strategy",
    "under_job",
]

_strategy: Strategy | None = None
_home = -1  # the thread that first used TensorFlow


def adopt_strategy(strategy: Strategy) -> None:
    """Set this worker's strategy, and let this thread create the job's variables.

    Args:
        strategy: The strategy that nano-init created for this worker.
    """
    global _strategy, _home
    _strategy, _home = strategy, threading.get_ident()


def job_strategy() -> Any:
    """Return the strategy that nano-init created for this worker, or None."""
    return _strategy


def is_job_strategy(strategy: Strategy | None) -> bool:
    """Say whether a strategy is the one that nano-init created."""
    return _strategy is not None and strategy is _strategy


def in_scope_of_job() -> contextlib.AbstractContextManager[Any]:
    """Return a context in which variables and models belong to the job.

    It changes nothing inside a strategy's scope, in sessions, and in threads that the program
    started: there the workers could create their variables in different orders.
    """
    from tensorflow.python.distribute import distribute_lib
    from tensorflow.python.framework import ops

    if (
        _strategy is None
        or distribute_lib.has_strategy()
        or not _is_home(threading.current_thread())
        or not ops.executing_eagerly_outside_functions()
    ):
        return contextlib.nullcontext()
    scope: contextlib.AbstractContextManager[Any] = _strategy.scope()
    return scope


def under_job(make: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that creates an object in the job's scope, which remembers the strategy."""

    @functools.wraps(make)
    def make_under_job(*args: Any, **kwargs: Any) -> Any:
        from tensorflow.python.eager import context

        context.ensure_initialized()
        with in_scope_of_job():
            return make(*args, **kwargs)

    return make_under_job


def is_in_replica() -> bool:
    """Say whether this runs inside a strategy's step, not in the program outside of steps."""
    import tensorflow as tf

    return tf.distribute.has_strategy() and not tf.distribute.in_cross_replica_context()


def _is_home(thread: threading.Thread) -> bool:
    from tensorflow.python.distribute.mirrored_run import _MirroredReplicaThread

    is_replica = isinstance(thread, _MirroredReplicaThread)
    return is_replica or thread is threading.main_thread() or thread.ident == _home
