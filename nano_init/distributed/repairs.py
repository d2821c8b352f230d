"""Repairs of two defects of Keras 3 under any MultiWorkerMirroredStrategy.

keras#20585: `TensorFlowTrainer._maybe_symbolic_build` reduces a batch over the replicas although
the batch of any replica is enough, and `reduce_per_replica` reduces scalars along an axis
(keras/src/backend/tensorflow/trainer.py).
"""

from __future__ import annotations

import functools
import sys

from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Model, Strategy

__all__ = ["is_multi_worker", "multi_worker_repairs"]

# It defines MultiWorkerMirroredStrategy.
_MULTI_WORKER = "tensorflow.python.distribute.collective_all_reduce_strategy"


def multi_worker_repairs() -> Iterator[Replacement]:
    """Yield the replacements that let `fit` and `evaluate` run under a multi-worker strategy."""
    from keras.src.backend.tensorflow import trainer

    name = "_maybe_symbolic_build"
    build = vars(trainer.TensorFlowTrainer).get(name)
    if build is not None:
        yield Replacement(trainer.TensorFlowTrainer, name, _wrap_symbolic_build(build))
    name = "reduce_per_replica"
    yield Replacement(trainer, name, _wrap_reduce_per_replica(vars(trainer)[name]))


def is_multi_worker(strategy: Strategy | None) -> bool:
    """Say whether a strategy spans several processes."""
    # Without an import of its class there is no such strategy, and Keras's check would import it.
    if strategy is None or _MULTI_WORKER not in sys.modules:
        return False
    from keras.src.backend.tensorflow.trainer import _collective_all_reduce_multi_worker

    return bool(_collective_all_reduce_multi_worker(strategy))


def _wrap_symbolic_build(build: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(build)
    def build_locally(self: Model, iterator: Any = None, data_batch: Any = None) -> None:
        if iterator is not None and is_multi_worker(self._distribute_strategy):
            data_batch = _first_local_batch(iterator, self._distribute_strategy)
            iterator = None
        build(self, iterator=iterator, data_batch=data_batch)

    return build_locally


def _first_local_batch(iterator: Any, strategy: Strategy) -> Any:
    from keras.src import tree

    for _, _, batches in iterator:
        return tree.map_structure(
            lambda value: strategy.experimental_local_results(value)[0], next(batches)
        )
    return None


def _wrap_reduce_per_replica(reduce: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(reduce)
    def reduce_over_workers(values: Any, strategy: Any, reduction: str) -> Any:
        if reduction not in ("auto", "mean", "sum") or not is_multi_worker(strategy):
            return reduce(values, strategy, reduction)
        from keras.src import tree

        operation = "SUM" if reduction == "sum" else "MEAN"
        return tree.map_structure(
            lambda value: strategy.reduce(operation, value, axis=None), values
        )

    return reduce_over_workers
