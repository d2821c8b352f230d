"""The steps of one call of `fit`, grouped into blocks."""

from __future__ import annotations

import time

from nano_init.keras_patch.steps.block_function import BlockFunction
from nano_init.keras_patch.steps.block_size import choose_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Model

__all__ = ["Blocks"]


class Blocks:
    """The blocks of one call of `fit`.

    Args:
        model: The model that is trained.
        size: The number of steps in a block; None finds it during training.
        epochs: The number of epochs of `fit`.
    """

    def __init__(self, model: Model, size: int | None, epochs: int) -> None:
        self.model = model
        self.is_auto = size is None
        self.size = size or 1
        self.count = 1
        self.done = 1
        self.epoch_iterator: Any = None
        self._epochs = epochs
        self._has_ended = False

    def group(self, epoch_iterator: Any, steps: Iterator[Any]) -> Iterator[Any]:
        """Yield the steps of an epoch, several at a time.

        Args:
            epoch_iterator: Keras's iterator, which counts the steps as `steps` advances.
            steps: First step, last step and data iterator, for one step each; before
                Keras 3.11, step and data iterator.
        """
        self._epochs -= 1
        for begin, *ends, data in steps:
            self.count, last = 1, begin
            while self.count < self._limit() and not _is_at_end(epoch_iterator, last):
                last = next(steps)[-2]
                self.count += 1
            for first, end in self._until_done(epoch_iterator, begin, last):
                # A callback that is given one step is given the last one.
                yield (first, end, data) if ends else (end, data)

    def _until_done(self, epoch_iterator: Any, begin: int, last: int) -> Iterator[tuple[int, int]]:
        self.done, self._has_ended = self.count, False
        yield begin, last
        while self.done < self.count:
            # The block took too long, or the data ended in it.
            begin, self.count = begin + self.done, self.count - self.done
            if self._has_ended:
                # The step that reaches the end, as it would one at a time: it raises after it
                # has advanced, for example, the random numbers of dropout.
                epoch_iterator._steps_seen -= self.count - 1
                last, self.count = begin, 1
            self.done = self.count
            yield begin, last

    def run(self, function: BlockFunction, data: Any) -> Any:
        """Run one block, and return the outputs of its last step.

        Args:
            function: The model's train function.
            data: The data iterator.
        """
        if self.is_auto and self.count == 1:
            run = function.run_alone(data)
            self.size = function.best_size(data, self._left())
        else:
            is_warm = function.has_graph(data)
            start = time.perf_counter()
            run = function.run(data, self.count, is_timed=self.is_auto)
            # The first call traces, so its time is not that of a step.
            if self.is_auto and is_warm:
                self.size = choose_size((time.perf_counter() - start) / run.done)
        self.done, self._has_ended = run.done, run.has_ended
        return run.outputs

    def _limit(self) -> int:
        # The script may have installed its own train function in the meantime.
        return self.size if isinstance(self.model.train_function, BlockFunction) else 1

    def _left(self) -> int | None:
        steps = _steps_of_epoch(self.epoch_iterator)
        if not steps:
            return None
        return int(steps) * (self._epochs + 1) - int(self.epoch_iterator._steps_seen)


def _steps_of_epoch(epoch_iterator: Any) -> Any:
    return epoch_iterator.steps_per_epoch or epoch_iterator._num_batches


def _is_at_end(epoch_iterator: Any, last: int) -> bool:
    # Advancing Keras's own generator past its end would start the next epoch.
    known = epoch_iterator._num_batches
    steps = _steps_of_epoch(epoch_iterator)
    has_run_out = known and epoch_iterator._steps_seen >= known
    return not steps or last + 1 >= steps or bool(has_run_out)
