"""A model's train function that can run several steps in one graph."""

from __future__ import annotations

import functools
import time
import weakref

from nano_init.frozen import frozen
from nano_init.keras_patch.steps.block_size import TARGET_SECONDS, Pace, choose_size
from nano_init.keras_patch.steps.running_blocks import current_blocks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from nano_init.keras_patch.tensor_types import Model, Tensor

__all__ = ["BlockFunction", "BlockRun"]

# A block whose size was chosen by time ends early if its steps are slower than expected, for
# example because they wait for data. Ctrl-C is handled between two blocks.
_MOST_SECONDS = 2 * TARGET_SECONDS

# The maximum number of graphs, for data with many different shapes.
_MOST_GRAPHS = 4


@frozen
class BlockRun:
    """The result of one block.

    Args:
        outputs: The outputs of its last step.
        done: The number of steps.
        has_ended: Whether the data ended in it.
    """

    outputs: object
    done: int
    has_ended: bool


class BlockFunction:
    """A model's `train_function`: one step, or a block of steps when `fit` requests it.

    Args:
        model: The model.
        one_step: Keras's own train function, made for one step.
    """

    def __init__(self, model: Model, one_step: Callable[[Any], Any]) -> None:
        self._model = weakref.ref(model)
        self._one_step = one_step
        # By the iterator's element_spec.
        self._graphs: dict[str, Any] = {}
        self._paces: dict[str, Pace] = {}
        self._known: Any = None
        self._kind = ""

    def __call__(self, data: Any) -> Any:
        """Train on the next batch or batches of an iterator, and return the last step's outputs."""
        import tensorflow as tf

        blocks = current_blocks()
        if blocks is None or blocks.model is not self._model():
            return self._one_step(data)
        if not isinstance(data, tf.data.Iterator):
            return self._one_step(data)
        return blocks.run(self, data)

    def run(self, data: Any, count: int, *, is_timed: bool) -> BlockRun:
        """Run several steps in one graph, or one by one if a loop cannot carry their outputs.

        Args:
            data: The data iterator.
            count: The number of steps.
            is_timed: Whether to end early if they take too long.
        """
        import tensorflow as tf

        graph = self._graph_for(data)
        if graph is None:
            return self._run_one_by_one(data, count)
        seconds = _MOST_SECONDS if is_timed else float("inf")
        outputs, done, has_more = graph(data, tf.constant(count), tf.constant(seconds, tf.float64))
        return BlockRun(outputs, int(done), not has_more)

    def run_alone(self, data: Any) -> BlockRun:
        """Run one step as without blocks, and measure its time.

        Args:
            data: The data iterator.
        """
        start = time.perf_counter()
        outputs = self._one_step(data)
        kind = self._kind_of(data)
        if kind in self._paces or len(self._paces) < _MOST_GRAPHS:
            pace = self._paces.get(kind, Pace())
            self._paces[kind] = pace.after(time.perf_counter() - start)
        return BlockRun(outputs, 1, has_ended=False)

    def has_graph(self, data: Any) -> bool:
        """Say whether blocks with such data have run.

        Args:
            data: The data iterator.
        """
        return self._graphs.get(self._kind_of(data)) is not None

    def best_size(self, data: Any, left: int | None) -> int:
        """Return the number of steps in a block of this data: 1 while blocks do not pay off.

        Args:
            data: The data iterator.
            left: The number of remaining steps, or None if unknown.
        """
        kind = self._kind_of(data)
        pace = self._paces.get(kind, Pace())
        if kind in self._graphs:
            return choose_size(pace.latest) if self._graphs[kind] is not None else 1
        return choose_size(pace.fastest) if pace.favours_blocks(left) else 1

    def _kind_of(self, data: Any) -> str:
        if self._known is None or self._known() is not data:
            self._known, self._kind = weakref.ref(data), repr(data.element_spec)
        return self._kind

    def _graph_for(self, data: Any) -> Any:
        import tensorflow as tf

        kind = self._kind_of(data)
        if kind not in self._graphs:
            graph = tf.function(
                functools.partial(_run_in_graph, self._one_step),
                autograph=False,
                reduce_retracing=True,
            )
            try:
                traced = graph.get_concrete_function(
                    data, tf.constant(1), tf.constant(0.0, tf.float64)
                )
                if _draws_seeded_numbers(traced.graph.as_graph_def()):
                    graph = None
            # A loop cannot carry these outputs, such as None: the steps run one by one.
            except (TypeError, ValueError):
                graph = None
            self._graphs[kind] = graph
        return self._graphs[kind]

    def _run_one_by_one(self, data: Any, count: int) -> BlockRun:
        import tensorflow as tf

        outputs, done = self._one_step(data), 1
        try:
            while done < count:
                outputs = self._one_step(data)
                done += 1
        except (StopIteration, tf.errors.OutOfRangeError):
            # The data ended in the block; the next step reports that.
            return BlockRun(outputs, done, has_ended=True)
        return BlockRun(outputs, done, has_ended=False)


def _draws_seeded_numbers(graph_def: Any) -> bool:
    """Say whether an op draws random numbers from a seed and a counter in its kernel.

    Each instance of such an op, in each graph, starts its sequence from the beginning.
    """
    nodes = list(graph_def.node)
    for function in graph_def.library.function:
        nodes.extend(function.node_def)
    return any(_is_seeded(node) for node in nodes)


def _is_seeded(node: Any) -> bool:
    return any(node.attr[name].i for name in ("seed", "seed2") if name in node.attr)


def _run_in_graph(
    one_step: Callable[[Any], Any], data: Any, count: Tensor, seconds: Tensor
) -> tuple[Any, Any, Any]:
    import tensorflow as tf

    start = tf.timestamp()

    def is_on(done: Tensor, has_more: Tensor, _: Any) -> Tensor:
        return has_more & (done < count) & (tf.timestamp() - start < seconds)

    def one_more(done: Tensor, _: Any, outputs: Any) -> Any:
        batch = data.get_next_as_optional()
        has_more = batch.has_value()
        outputs = tf.cond(has_more, lambda: one_step([batch.get_value()]), lambda: outputs)
        return done + tf.cast(has_more, tf.int32), has_more, outputs

    with tf.control_dependencies([start]):
        first = one_step([data.get_next()])
    loop = [tf.constant(1), tf.constant(True), first]
    done, has_more, outputs = tf.while_loop(is_on, one_more, loop)
    return outputs, done, has_more
