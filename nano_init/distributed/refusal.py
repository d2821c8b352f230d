"""End a job whose program cannot run on several workers, before it trains."""

from __future__ import annotations

import functools
import os
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

__all__ = ["end_if_refused", "has_refused", "is_eager_disabled", "refuse", "refuse_sessions"]


_refused: list[str] = []


def has_refused() -> bool:
    """Say whether this worker is being ended, whatever its program does about that."""
    return bool(_refused)


def end_if_refused() -> None:
    """End a worker that was refused, whose program caught the exit and trains all the same.

    Raises:
        SystemExit: This worker was refused.
    """
    if _refused:
        from nano_init.protocol.worker_refusal import REFUSED_STATUS

        sys.exit(REFUSED_STATUS)


def refuse(sentence: str) -> NoReturn:
    """End this worker, and with it the job, with a sentence and exit status 2.

    Args:
        sentence: What cannot run on several workers, and the way out.
    """
    from nano_init.distributed.worker_startup import report_status
    from nano_init.protocol.worker_refusal import REFUSED, REFUSED_STATUS

    print(f"nano-run: {sentence}", file=sys.stderr, flush=True)
    _refused.append(sentence)
    report_status("failed", REFUSED)
    if threading.current_thread() is not threading.main_thread():
        os._exit(REFUSED_STATUS)  # SystemExit would end only the thread
    sys.exit(REFUSED_STATUS)


def refuse_sessions() -> None:
    """Refuse training in TensorFlow 1 graphs and sessions, which strategies do not support.

    A program that trains otherwise may inspect a graph in a session.
    """
    from tensorflow.python.client import session
    from tensorflow.python.training import optimizer

    base: Any = session.BaseSession
    base.__init__ = _wrap_refused(base.__init__, is_eager_disabled)
    trainer: Any = optimizer.Optimizer
    trainer.apply_gradients = _wrap_refused(trainer.apply_gradients, _is_in_session_graph)


def is_eager_disabled() -> bool:
    """Say whether the program has switched to TensorFlow 1 graphs entirely."""
    from tensorflow.python.eager import context

    return bool(context.default_execution_mode == context.GRAPH_MODE)


def _is_in_session_graph() -> bool:
    from tensorflow.python.framework import ops

    return not ops.executing_eagerly_outside_functions()


def _wrap_refused(act: Callable[..., Any], is_refused: Callable[[], bool]) -> Callable[..., Any]:
    @functools.wraps(act)
    def refuse_or_act(*args: Any, **kwargs: Any) -> Any:
        if is_refused():
            args[0]._session = None  # a session reads this when it is deleted
            refuse(
                "the script trains in TensorFlow 1 graphs and sessions, which workers cannot "
                "share; run it without --nproc-per-node"
            )
        return act(*args, **kwargs)

    return refuse_or_act
