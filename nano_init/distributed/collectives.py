"""Notify the other workers when this worker reaches one of TensorFlow's own collectives.

A worker that reaches one does not take part in the saves before it. The notice is sent wherever a
script, Keras or TensorFlow itself creates a collective: outside of functions when it is created;
inside a function, which is marked while it is traced, whenever that is called.
"""

from __future__ import annotations

import functools

from nano_init.distributed.all_reduce import note_collective
from nano_init.distributed.single_writer import skips_collectives
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ["collective_replacements"]

# An attribute of a function's graph: whether one of its collectives needs all workers.
_MARK = "_nano_init_takes_all"


def collective_replacements() -> Iterator[Replacement]:
    """Yield the replacements that note TensorFlow's collectives and functions with some."""
    from tensorflow.python.eager.polymorphic_function.concrete_function import ConcreteFunction
    from tensorflow.python.ops import collective_ops

    # The collectives of MultiWorkerMirroredStrategy (cross_device_utils.py,
    # `CollectiveReplicaLauncher`; collective_all_reduce_strategy.py,
    # `_get_variable_creator_initial_value`). Sent data can be received after the sender has ended.
    for name in ("all_reduce_v2", "all_gather_v2", "broadcast_send", "broadcast_recv"):
        make = vars(collective_ops)[name]
        yield Replacement(
            collective_ops, name, _wrap_collective(make, takes_all=name.startswith("all_"))
        )
    name = "_call_flat"
    yield Replacement(ConcreteFunction, name, _wrap_call_flat(vars(ConcreteFunction)[name]))


def _wrap_collective(make: Callable[..., Any], *, takes_all: bool) -> Callable[..., Any]:
    @functools.wraps(make)
    def make_noted(*args: Any, **kwargs: Any) -> Any:
        _note(takes_all=takes_all)
        return make(*args, **kwargs)

    return make_noted


def _wrap_call_flat(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def call_noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        takes_all = getattr(self._func_graph, _MARK, None)
        if takes_all is not None:
            _note(takes_all=takes_all)
        return call(self, *args, **kwargs)

    return call_noted


def _note(*, takes_all: bool) -> None:
    import tensorflow as tf
    from tensorflow.python.framework import ops

    if tf.executing_eagerly():
        # Marked collectives need not run: a worker that saves alone skips its collectives.
        if not skips_collectives():
            note_collective(takes_all=takes_all)
        return
    graph = ops.get_default_graph()
    while graph is not None:
        setattr(graph, _MARK, takes_all or getattr(graph, _MARK, False))
        graph = getattr(graph, "outer_graph", None)
