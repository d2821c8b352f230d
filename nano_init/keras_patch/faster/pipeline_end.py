"""The visible effects of the end of a tf.data pipeline, which a script may rely on.

An iterator is destroyed from its last stage to its first: each waits for its own threads, and then
destroys the stage before it. The tuning thread is destroyed after all of them
(tensorflow/core/data/root_dataset.cc, `RootDataset::Iterator`, whose `input_impl_` is its last
member). The generator of `from_generator` is such a first stage, and is closed by a call to Python.
In a linear pipeline, all stages have ended by then.
"""

from __future__ import annotations

import _thread
import functools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Dataset

__all__ = [
    "OpenPasses",
    "can_be_seen",
    "generator_passes",
    "marking_passes",
    "noting_ends",
    "noting_passes",
]

_PASSES = "_nano_init_passes"

# Ops that call Python, and ops that complete or delete files when they are destroyed.
_SEEN = ("PyFunc", "EagerPyFunc", "CacheDataset", "Snapshot", "SaveDataset")
_FILE_STEPS = ("_SnapshotDataset", "_SaveDataset")

_made = _thread._local()
_awaited: list[OpenPasses] = []


class OpenPasses:
    """The passes over a generator that are open when an iterator ends.

    Args:
        passes: The open passes by number, as TensorFlow keeps them.
    """

    def __init__(self, passes: dict[Any, Any]) -> None:
        self._passes = passes
        self._gate = _thread.allocate_lock()
        self._gate.acquire()
        _awaited.append(self)
        self._numbers = tuple(passes)

    def are_there(self) -> bool:
        """Say whether one of them is still open."""
        return any(number in self._passes for number in self._numbers)

    def wait(self) -> None:
        """Wait until all of them are closed, or until `end` is called."""
        self.check()
        self._gate.acquire()
        _awaited.remove(self)

    def check(self) -> None:
        """End the wait if all are closed."""
        if not self.are_there():
            self.end()

    def end(self) -> None:
        """End the wait."""
        try:
            self._gate.release()
        except RuntimeError:
            return  # it has ended already


def noting_passes(initialize: Callable[..., Any]) -> Callable[..., Any]:
    """Return an `__init__` of TensorFlow's `_GeneratorState` that records the new state."""

    @functools.wraps(initialize)
    def init(self: Any, generator: Any) -> None:
        initialize(self, generator)
        _made.passes = self._iterators

    return init


def marking_passes(from_generator: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `from_generator` whose pipeline refers to the passes over its generator."""

    @functools.wraps(from_generator)
    def marking(*args: Any, **kwargs: Any) -> Any:
        dataset = from_generator(*args, **kwargs)
        (source,) = dataset._inputs()
        # With the paths of Keras and `tf_keras` in one process, the inner one has set it already.
        if (passes := vars(_made).pop("passes", None)) is not None:
            setattr(source, _PASSES, passes)
        return dataset

    return marking


def noting_ends(complete: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `_GeneratorState.iterator_completed` that ends a wait for the pass."""

    @functools.wraps(complete)
    def iterator_completed(self: Any, iterator_id: Any) -> None:
        try:
            complete(self, iterator_id)
        finally:
            for passes in tuple(_awaited):
                passes.check()

    return iterator_completed


def generator_passes(dataset: Dataset) -> tuple[dict[Any, Any] | None, bool]:
    """Return the open passes over the generator at the start of a linear pipeline.

    Returns:
        The passes, or None without such a generator; and whether more may follow.
    """
    may_repeat = False
    while len(dataset._inputs()) == 1:
        may_repeat = may_repeat or "Repeat" in type(dataset).__name__
        (dataset,) = dataset._inputs()
    return getattr(dataset, _PASSES, None), may_repeat


def can_be_seen(dataset: Dataset, *, has_ended: bool) -> bool:
    """Say whether a script can observe that a pipeline's stages have ended.

    Args:
        dataset: The pipeline.
        has_ended: Whether the generator at its start has ended, so that it does not count.
    """
    steps = _steps(dataset)
    return any(_is_seen(step) for step in steps if not (has_ended and _is_generator(step)))


def _is_generator(step: Dataset) -> bool:
    return any(hasattr(source, _PASSES) for source in step._inputs())


def _steps(dataset: Dataset) -> Iterator[Dataset]:
    steps = [dataset]
    while steps:
        yield (step := steps.pop())
        steps.extend(step._inputs())


def _is_seen(step: Dataset) -> bool:
    if type(step).__name__ in _FILE_STEPS or _has_cache_file(step):
        return True
    return any(op.startswith(_SEEN) for function in step._functions() for op in _ops_of(function))


def _has_cache_file(step: Dataset) -> bool:
    name = getattr(step, "_filename", None) if type(step).__name__ == "CacheDataset" else None
    return name is not None and name.numpy() != b""


def _ops_of(function: Any) -> Iterator[str]:
    graph = function.function.graph.as_graph_def()
    yield from (node.op for node in graph.node)
    yield from (node.op for each in graph.library.function for node in each.node_def)
