"""Keras's `fit`, `evaluate` and `predict` on a worker's shards of the script's batches.

A batch of the script is the global batch. Each worker's input pipeline produces the whole batch,
and the step computes the worker's rows of it. So any source of data works: arrays, `tf.data`,
generators, `train_on_batch`. The outputs of a step are averaged over the workers, weighted by their
shards.
"""

from __future__ import annotations

import functools

from nano_init.distributed.all_reduce import all_reduce
from nano_init.distributed.batch_consistency import agreed_batches, all_reduce_consistent
from nano_init.distributed.batch_shard import (
    at_rows_of_batch,
    computing_shard,
    is_of_rows,
    shard_of,
)
from nano_init.distributed.job_strategy import is_job_strategy, under_job
from nano_init.distributed.metric_results import deferring_results
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.distributed.batch_shard import BatchShard
    from nano_init.keras_patch.tensor_types import Dataset, Model, Strategy, Tensor
    from nano_init.protocol.membership import Membership

__all__ = ["symbolic_batch", "train_on_shard", "training_replacements"]


def training_replacements(membership: Membership) -> Iterator[Replacement]:
    """Yield the replacements that make Keras's loops compute this worker's shards.

    Args:
        membership: This worker's place in the job.
    """
    from keras.src.backend.tensorflow import trainer
    from keras.src.backend.tensorflow.optimizer import TFOptimizer

    # A model or an optimizer remembers the strategy that was active when it was created.
    for owner, name in (
        (trainer.TensorFlowTrainer, "__init__"),
        (TFOptimizer, "__init__"),
        (TFOptimizer, "add_variable_from_reference"),
    ):
        yield Replacement(owner, name, under_job(vars(owner)[name]))
    owner = trainer.TensorFlowTrainer
    wrapped = {
        "_make_function": _wrap_make_function,
        "make_predict_function": _wrap_make_predict_function,
        "_maybe_symbolic_build": _wrap_symbolic_build,
    }
    for name, wrap in wrapped.items():
        yield Replacement(owner, name, wrap(vars(owner)[name], membership))
    yield Replacement(
        trainer, "reduce_per_replica", _wrap_reduce_per_replica(trainer.reduce_per_replica)
    )
    iterator = trainer.TFEpochIterator
    yield Replacement(iterator, "__init__", _wrap_iterator_init(vars(iterator)["__init__"]))
    name = "_get_iterator"
    yield Replacement(iterator, name, _wrap_get_iterator(vars(iterator)[name]))


def compute_on_shard(
    step: Callable[[Any], Any], batch: Any, membership: Membership
) -> tuple[Any, BatchShard]:
    """Compute a step on this worker's rows of a batch; called by `Strategy.run`.

    Args:
        step: The step, a function of a batch.
        batch: The global batch.
        membership: This worker's place in the job.

    Returns:
        The step's outputs, and the shard.
    """
    shard = shard_of(batch, membership.index, membership.workers)
    with computing_shard(shard):
        return step(shard.take(batch)), shard


def train_on_shard(
    step: Callable[[Any], Any], batch: Any, membership: Membership, *, joins_rows: bool = False
) -> Any:
    """Compute a step on this worker's rows, and average its results over the workers.

    One message averages floating outputs and the state that layers keep in variables. Other
    outputs are this worker's own.

    Args:
        step: The step, a function of a batch.
        batch: The global batch; the workers check that it is the same on all.
        membership: This worker's place in the job.
        joins_rows: Whether to gather outputs with one row per row of the shard to the whole batch.
    """
    from keras.src import tree

    shard = shard_of(batch, membership.index, membership.workers)
    with deferring_results() as deferred, computing_shard(shard) as written:
        outputs = step(shard.take(batch))
    flat = [_as_tensor(value) for value in tree.flatten(outputs)]
    results = deferred.among(flat)
    of_rows = [joins_rows and is_of_rows(value, shard) for value in flat]
    flat = [
        at_rows_of_batch(v, shard) if joins else v for v, joins in zip(flat, of_rows, strict=True)
    ]
    places = [i for i, value in enumerate(flat) if _is_floating(value) and i not in results]
    for place, joins in enumerate(of_rows):
        if joins and place not in places:
            flat[place] = _sum_of_integers(flat[place])
    reads = dict.fromkeys(read for read, _ in results.values())
    added = [value for read in reads for value in deferred.own(read)]
    values = [*(flat[i] for i in places), *(_as_tensor(v.value) for v in written), *added]
    sums = [of_rows[i] for i in places] + [False] * len(written) + [True] * len(added)
    averaged = _average(values, sums, shard, batch)
    for place, value in zip(places, averaged, strict=False):
        flat[place] = value
    for variable, value in zip(written, averaged[len(places) :], strict=False):
        variable.value.assign(value)
    totals = iter(averaged[len(places) + len(written) :])
    leaves = {r: deferred.result(r, [next(totals) for _ in deferred.own(r)]) for r in reads}
    for place, (read, leaf) in results.items():
        flat[place] = leaves[read][leaf]
    return tree.pack_sequence_as(outputs, flat)


def _sum_of_integers(value: Tensor) -> Tensor:
    import tensorflow as tf

    return tf.cast(all_reduce([tf.cast(value, tf.int64)])[0], value.dtype)


def _average(values: list[Tensor], sums: list[bool], shard: BatchShard, batch: Any) -> list[Tensor]:
    """Return averages weighted by shard; plain sums where `sums` is true."""
    import tensorflow as tf

    dtype = tf.float64 if any(v.dtype == tf.float64 for v in values) else tf.float32
    weight = tf.cast(shard.weight, dtype)
    packed = [
        tf.reshape(tf.cast(v, dtype), [-1]) * (1.0 if is_sum else weight)
        for v, is_sum in zip(values, sums, strict=True)
    ]
    total = all_reduce_consistent(packed, batch, shard.workers, dtype)
    parts = tf.split(total, [tf.size(part) for part in packed]) if packed else []
    return [
        tf.cast(tf.reshape(part, tf.shape(value)), value.dtype)
        for part, value in zip(parts, values, strict=True)
    ]


def _wrap_make_function(make: Callable[..., Any], membership: Membership) -> Callable[..., Any]:
    @functools.wraps(make)
    def make_sharded(self: Model, step_function: Callable[[Any], Any]) -> Any:
        if not is_job_strategy(self.distribute_strategy):
            return make(self, step_function)

        @functools.wraps(step_function)
        def sharded_step(batch: Any) -> Any:
            return train_on_shard(step_function, batch, membership)

        # XLA would compile the whole step, which communicates with other processes.
        asked, self._jit_compile = self._jit_compile, False
        try:
            return make(self, sharded_step)
        finally:
            self._jit_compile = asked

    return make_sharded


def _as_tensor(value: Any) -> Any:
    import tensorflow as tf

    return tf.convert_to_tensor(value) if isinstance(value, (float, int, tf.Variable)) else value


def _is_floating(value: Any) -> bool:
    import tensorflow as tf

    return isinstance(value, tf.Tensor) and value.dtype.is_floating


def _wrap_reduce_per_replica(reduce: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(reduce)
    def leave_reduced(values: Any, strategy: Strategy | None, reduction: str) -> Any:
        return values if is_job_strategy(strategy) else reduce(values, strategy, reduction)

    return leave_reduced


def _wrap_make_predict_function(
    make: Callable[..., Any], membership: Membership
) -> Callable[..., Any]:
    @functools.wraps(make)
    def make_sharded(self: Model, force: bool = False) -> Any:
        if not is_job_strategy(self.distribute_strategy):
            return make(self, force)
        if self.predict_function is None or force:
            self.predict_function = _sharded_prediction(self, membership)
        return self.predict_function

    return make_sharded


def _sharded_prediction(model: Model, membership: Membership) -> Callable[[Any], Any]:
    import tensorflow as tf
    from keras.src import tree
    from keras.src.backend.tensorflow.trainer import concat

    strategy = model.distribute_strategy

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def predict_shard(batch: Any) -> Any:
        outputs, shard = compute_on_shard(model.predict_step, batch, membership)
        return tree.map_structure(lambda output: output[: shard.owned], outputs)

    predict_shard = model._autoconvert_optionals(predict_shard)

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def predict_batches(batches: Any) -> Any:
        gathered = [
            tree.map_structure(
                lambda output: strategy.gather(output, axis=0),
                strategy.run(predict_shard, args=(batch,)),
            )
            for batch in batches
        ]
        if len(gathered) == 1:
            return gathered[0]
        return tree.map_structure(lambda *outputs: concat(outputs), *gathered)

    is_eager = model.run_eagerly
    predict: Callable[[Any], Any] = (
        predict_batches if is_eager else tf.function(predict_batches, reduce_retracing=True)
    )
    return predict


def _wrap_symbolic_build(
    build: Callable[..., None], _membership: Membership
) -> Callable[..., None]:
    """Return a build that leaves variables to the first step, as in one process.

    Under a strategy Keras builds a model through its `call`. A model with its own `train_step` may
    have no `call`, or one that does not accept the elements of the data set.
    """

    @functools.wraps(build)
    def build_in_the_step(self: Model, iterator: Any = None, data_batch: Any = None) -> None:
        if not is_job_strategy(self._distribute_strategy):
            build(self, iterator=iterator, data_batch=data_batch)

    return build_in_the_step


def symbolic_batch(dataset: Dataset) -> Any:
    """Return the specs of a data set's elements, or None if a rank is unknown."""
    import tensorflow as tf
    from keras.src import tree

    def spec_or_none(spec: Any) -> Any:
        has_shape = isinstance(spec, (tf.TensorSpec, tf.SparseTensorSpec, tf.RaggedTensorSpec))
        return spec if has_shape else None

    specs = tree.map_structure(spec_or_none, dataset.element_spec)
    known = [spec for spec in tree.flatten(specs) if spec is not None]
    return specs if all(spec.shape.rank is not None for spec in known) else None


def _wrap_iterator_init(initialize: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(initialize)
    def take_whole_batches(
        self: Any, distribute_strategy: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        if is_job_strategy(distribute_strategy):
            distribute_strategy = _WholeBatches()
        initialize(self, distribute_strategy, *args, **kwargs)

    return take_whole_batches


class _WholeBatches:
    """A substitute for the strategy where Keras distributes a data set: it stays whole."""

    def experimental_distribute_dataset(self, dataset: Dataset) -> Dataset:
        """Return the data set unchanged."""
        return dataset


def _wrap_get_iterator(get_iterator: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(get_iterator)
    def get_agreeing_iterator(self: Any) -> Any:
        batches = get_iterator(self)
        is_shared = isinstance(self._distribute_strategy, _WholeBatches)
        if not is_shared:
            return batches
        return agreed_batches(batches, self.data_adapter.num_batches)

    return get_agreeing_iterator
