"""What a step reads from a metric: the whole batch's result, as one process has it.

Within a step a metric's variables hold what this worker has added to them; their sum over the
workers is what one process would hold (keras/src/metrics/metric.py, `synchronization="on_read"`).
No mean of the workers' results replaces a result of the sums: workers may have had different
numbers of rows, and a result may be any function of the sums. So `result()` computes from the
sums. What Keras itself reads at the end of a step waits for the message that averages the
step's outputs, and costs none of its own.
"""

from __future__ import annotations

import functools
import threading
from contextlib import contextmanager

from nano_init.distributed.all_reduce import all_reduce
from nano_init.distributed.batch_shard import current_shard
from nano_init.distributed.state import is_overwritten
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from nano_init.keras_patch.tensor_types import Metric, Model, Tensor, Variable

__all__ = [
    "DeferredResults",
    "deferring_results",
    "legacy_metric_replacements",
    "metric_replacements",
]

_HERE = threading.local()


def metric_replacements() -> Iterator[Replacement]:
    """Yield what makes Keras 3's metrics those of the whole batch within a step."""
    from keras.src.metrics.metric import Metric
    from keras.src.metrics.reduction_metrics import Mean
    from keras.src.trainers.trainer import Trainer

    yield Replacement(Metric, "__init__", _wrap_init(vars(Metric)["__init__"]))
    yield Replacement(Mean, "update_state", _wrap_update_mean(vars(Mean)["update_state"]))
    name = "get_metrics_result"
    yield Replacement(Trainer, name, _wrap_get_metrics_result(vars(Trainer)[name]))


def legacy_metric_replacements() -> Iterator[Replacement]:
    """Yield what makes Keras 2's means weigh a shard; its `result()` adds up by itself."""
    from tf_keras.src.metrics.base_metric import Mean, Reduce

    update = _wrap_update_mean(vars(Reduce)["update_state"])
    yield Replacement(Mean, "update_state", update, inherited=True)


def _wrap_update_mean(update: Callable[..., Any]) -> Callable[..., Any]:
    """Return an `update_state` that counts a step's mean once, as one process does.

    The mean over a shard's rows counts as the shard's part of the batch.
    """

    @functools.wraps(update)
    def update_by_part(self: Metric, values: Any, sample_weight: Any = None) -> Any:
        shard = current_shard()
        if shard is not None and sample_weight is None and _is_scalar(values):
            sample_weight = shard.weight
        return update(self, values, sample_weight)

    return update_by_part


def _is_scalar(values: Any) -> bool:
    import tensorflow as tf

    if isinstance(values, (list, tuple, dict)):
        return False
    shape = getattr(values, "shape", ())
    return shape == () if isinstance(shape, tuple) else tf.TensorShape(shape).rank == 0


def _wrap_init(initialize: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(initialize)
    def initialize_shared(self: Metric, *args: Any, **kwargs: Any) -> None:
        _share_result(type(self))
        initialize(self, *args, **kwargs)

    return initialize_shared


def _share_result(kind: type) -> None:
    """Wrap the `result` method of a metric's class, own or inherited, once."""
    import types

    owner = next(base for base in kind.__mro__ if "result" in vars(base))
    result = vars(owner)["result"]
    if isinstance(result, types.FunctionType) and not hasattr(result, "is_of_whole_batch"):
        owner.result = _wrap_result(result)  # type: ignore[attr-defined]


def _wrap_result(result: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(result)
    def result_of_whole_batch(self: Metric, *args: Any, **kwargs: Any) -> Any:
        if current_shard() is None or getattr(_HERE, "is_reading", False) or _is_stateless():
            return result(self, *args, **kwargs)
        variables = list(_added_up(self))
        if not variables or _is_in_branch():
            return result(self, *args, **kwargs)
        read = functools.partial(result, self, *args, **kwargs)
        own = [_value(variable) for variable in variables]
        deferred = getattr(_HERE, "deferred", None)
        if deferred is not None and getattr(_HERE, "may_wait", False) and deferred.takes(own):
            return deferred.add(read, variables, own)
        return _read_from(read, variables, all_reduce(own))

    result_of_whole_batch.is_of_whole_batch = True  # type: ignore[attr-defined]
    return result_of_whole_batch


def _is_stateless() -> bool:
    from keras.src.backend.common.stateless_scope import in_stateless_scope

    return bool(in_stateless_scope())


def _is_in_branch() -> bool:
    """Say whether this is traced for one side of a condition, which others may not take."""
    import tensorflow as tf
    from tensorflow.python.framework import ops
    from tensorflow.python.ops.control_flow_v2_func_graphs import CondBranchFuncGraph

    graph = None if tf.executing_eagerly() else ops.get_default_graph()
    while graph is not None and not isinstance(graph, CondBranchFuncGraph):
        graph = getattr(graph, "outer_graph", None)
    return graph is not None


def _added_up(metric: Metric) -> Iterator[Variable]:
    """Yield a metric's variables whose sum over the workers is what one process would hold.

    A metric of the program's own may have a state that is not a sum, such as a maximum.
    """
    if str(type(metric).__module__).startswith("keras.") or not any(
        is_overwritten(variable) for variable in metric._variables
    ):
        for variable in metric._variables:
            if variable.synchronization == "on_read" and variable.aggregation == "sum":
                yield variable
    for part in metric._metrics:
        yield from _added_up(part)


def _value(variable: Variable) -> Tensor:
    import tensorflow as tf

    return tf.convert_to_tensor(variable.value)


def _read_from(
    read: Callable[[], Any], variables: Sequence[Variable], values: Sequence[Any]
) -> Any:
    """Return what a metric's `result()` gives while its variables have other values."""
    from keras.src.backend.common.stateless_scope import StatelessScope

    _HERE.is_reading = True
    try:
        with StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return read()
    finally:
        _HERE.is_reading = False


def _wrap_get_metrics_result(get: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(get)
    def get_in_one_message(self: Model) -> Any:
        _HERE.may_wait = True
        try:
            return get(self)
        finally:
            _HERE.may_wait = False

    return get_in_one_message


class DeferredResults:
    """Results that a step returns as they are: made of the sums, once these are there."""

    def __init__(self) -> None:
        self._graph = _graph()
        self._reads: list[tuple[Callable[[], Any], Sequence[Variable], Sequence[Tensor]]] = []
        # By the `id` of an output: itself, which read it is from and which leaf of that.
        self._places: dict[int, tuple[Any, int, int]] = {}

    def takes(self, own: Sequence[Tensor]) -> bool:
        """Say whether a result may wait: what a function within the step returns is lost."""
        return _graph() is self._graph and all(value.dtype.is_floating for value in own)

    def add(
        self, read: Callable[[], Any], variables: Sequence[Variable], own: Sequence[Tensor]
    ) -> Any:
        """Return this worker's result as a placeholder for the whole batch's.

        Args:
            read: The metric's `result`.
            variables: Its variables that are to be added up.
            own: Their values on this worker.
        """
        from keras.src import tree

        _HERE.is_reading = True
        try:
            result = read()
        finally:
            _HERE.is_reading = False
        for leaf, value in enumerate(tree.flatten(result)):
            self._places[id(value)] = (value, len(self._reads), leaf)
        self._reads.append((read, variables, own))
        return result

    def among(self, outputs: Sequence[Any]) -> dict[int, tuple[int, int]]:
        """Return which outputs are results: by their places, the number of the read and leaf."""
        found = {}
        for place, output in enumerate(outputs):
            value, read, leaf = self._places.get(id(output), (None, 0, 0))
            if value is not None:
                found[place] = (read, leaf)
        return found

    def own(self, read: int) -> Sequence[Tensor]:
        """Return the values that this worker has of a read's variables."""
        return self._reads[read][2]

    def result(self, read: int, sums: Sequence[Tensor]) -> list[Any]:
        """Return the leaves of a result, made of its variables' sums."""
        from keras.src import tree

        function, variables, _ = self._reads[read]
        return list(tree.flatten(_read_from(function, variables, sums)))


def _graph() -> Any:
    import tensorflow as tf
    from tensorflow.python.framework import ops

    return None if tf.executing_eagerly() else ops.get_default_graph()


@contextmanager
def deferring_results() -> Iterator[DeferredResults]:
    """Let what Keras reads from metrics wait for the end of a step; in this thread only."""
    before = getattr(_HERE, "deferred", None)
    _HERE.deferred = DeferredResults()
    try:
        yield _HERE.deferred
    finally:
        _HERE.deferred = before
