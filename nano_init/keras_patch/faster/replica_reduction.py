"""Return the values of a step without asking which of TensorFlow's strategies is in use.

After each batch Keras compares the model's strategy with TPUStrategy and
MultiWorkerMirroredStrategy, and each value with the values of replicas
(keras/src/backend/tensorflow/trainer.py, `reduce_per_replica`). With lazy namespaces, that is what
imports these classes, and 94 modules with them (TensorFlow 2.21). Without an import, there can
be no object of them, and Keras's function returns the values as they are.
"""

from __future__ import annotations

import functools
import sys

from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Strategy

__all__ = ["replica_reduction_replacements"]

# They define PerReplica, MultiWorkerMirroredStrategy and TPUStrategy.
_DISTRIBUTED = (
    "tensorflow.python.distribute.values",
    "tensorflow.python.distribute.collective_all_reduce_strategy",
    "tensorflow.python.distribute.tpu_strategy",
)


def replica_reduction_replacements() -> Iterator[Replacement]:
    """Yield the replacement that returns the values of one replica as they are."""
    from keras.src.backend.tensorflow import trainer

    name = "reduce_per_replica"
    yield Replacement(trainer, name, _wrap_reduction(vars(trainer)[name]))


def _wrap_reduction(reduce: Callable[..., Any]) -> Callable[..., Any]:
    from keras.src import tree

    @functools.wraps(reduce)
    def reduce_per_replica(values: Any, strategy: Strategy | None, reduction: str) -> Any:
        if any(module in sys.modules for module in _DISTRIBUTED):
            return reduce(values, strategy, reduction)
        return tree.map_structure(lambda value: value, values)

    return reduce_per_replica
