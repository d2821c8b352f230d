"""Batches of arrays whose rows are in order: a pipeline that only slices them, without a function.

What `array_passes` and `legacy_array_passes` share.
"""

from __future__ import annotations

import copy
import functools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Dataset, Tensor

__all__ = [
    "LARGEST",
    "LARGEST_BATCH",
    "SeededOrders",
    "SlicedArrays",
    "bytes_of",
    "is_default_strategy",
    "is_dense",
    "is_seed_known",
    "is_unwatched",
    "leaves_of",
    "sliced",
]

# The size of the arrays in bytes up to which putting all rows in order is faster than tracing.
LARGEST = 2**22

# Sizes are int32 in TensorFlow's slices.
LARGEST_BATCH = 2**31

_MOST_ORDERS = 16


def leaves_of(structure: Any) -> Iterator[Any]:
    """Yield the leaves of nested lists, tuples and dicts; any other object is a leaf."""
    if type(structure) in (list, tuple):
        for part in structure:
            yield from leaves_of(part)
    elif type(structure) is dict:
        yield from leaves_of(list(structure.values()))
    else:
        yield structure


def is_dense(leaf: Any) -> bool:
    """Say whether an object is an array or an eager tensor of numbers or booleans."""
    import numpy as np
    import tensorflow as tf

    if isinstance(leaf, np.ndarray):
        return leaf.dtype.kind in "biuf"
    if not isinstance(leaf, tf.__internal__.EagerTensor):
        return False
    return bool(leaf.dtype.is_floating or leaf.dtype.is_integer or leaf.dtype.is_bool)


def bytes_of(leaf: Any) -> int:
    """Return the size of a dense array or tensor in bytes."""
    import numpy as np

    size = leaf.dtype.itemsize if isinstance(leaf, np.ndarray) else leaf.dtype.size
    return int(np.prod(leaf.shape, dtype=np.int64)) * int(size)


def is_seed_known() -> bool:
    """Say whether the global seed can be a key; Keras complains about any other one itself."""
    from tensorflow.python.eager import context

    return isinstance(context.global_seed(), (int, type(None)))


def is_unwatched() -> bool:
    """Say whether functions of a pipeline run as usual, and nothing observes what runs."""
    import tensorflow as tf
    from tensorflow.python.data.ops import debug_mode
    from tensorflow.python.eager import context
    from tensorflow.python.framework import config

    return (
        tf.executing_eagerly()
        # TensorFlow warns that this does not apply to the functions of a pipeline.
        and not tf.config.functions_run_eagerly()
        and not debug_mode.DEBUG_MODE
        and not context.context().op_callbacks
        # There TensorFlow refuses to draw an order without a seed.
        and not config.is_op_determinism_enabled()
    )


def is_default_strategy(strategy: Any) -> bool:
    """Say whether a strategy is the one without any strategy."""
    from tensorflow.python.distribute import distribute_lib

    return strategy is distribute_lib._get_default_strategy()


class SeededOrders:
    """The orders in which Keras's pipeline takes rows after `tf.random.set_seed`.

    They depend on the seed and the number of rows alone.

    Args:
        find: Takes a number of rows and of passes, and returns the orders that an iterator over
            Keras's pipeline takes with the seed in use, int64 of shape [passes, rows].
    """

    def __init__(self, find: Callable[[int, int], Tensor]) -> None:
        self._find = find
        self._orders: dict[tuple[int, int], Tensor | None] = {}

    def orders(self, rows: int, seed: int, passes: int = 1) -> Tensor | None:
        """Return the orders of the first passes; None when asked for the first time.

        To find an order takes as long as one call with Keras's pipeline, which would be lost if
        the number of rows does not come again. It can only be found while the seed is in use.

        Args:
            rows: The number of rows.
            seed: The global seed when Keras would have made its pipeline.
            passes: The number of passes.

        Returns:
            The orders of at least so many passes, int64 of shape [passes, rows].
        """
        key = rows, seed
        if key not in self._orders:
            if len(self._orders) >= _MOST_ORDERS:
                self._orders.clear()
            self._orders[key] = None
            return None
        known = self._orders.get(key)
        if known is None or known.shape[0] < passes:
            known = self._found(rows, seed, passes)
            self._orders[key] = known
        return known

    def _found(self, rows: int, seed: int, passes: int) -> Tensor | None:
        from tensorflow.python.eager import context

        if context.global_seed() != seed:
            return None
        orders = self._find(rows, passes)
        # Another thread may have changed it.
        return orders if context.global_seed() == seed else None


class SlicedArrays:
    """Arrays in place of a pipeline; everything else that a dataset has is that of Keras's.

    Args:
        arrays: The arrays, a structure of tensors.
        make_pipeline: Makes Keras's pipeline of them.
    """

    def __init__(self, arrays: Any, make_pipeline: Callable[[], Dataset]) -> None:
        self._arrays = arrays
        self._make_pipeline = make_pipeline
        self._pipeline: Dataset | None = None
        self._options: Any = None

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of Keras's pipeline."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.keras_pipeline(), name)

    def with_options(self, options: Any) -> Any:
        """Return the same batches with options for the pipelines, as a dataset does.

        Args:
            options: A `tf.data.Options`.
        """
        other = copy.copy(self)
        other._options = options if self._options is None else self._options.merge(options)
        return other

    def keras_pipeline(self) -> Dataset:
        """Return Keras's pipeline, made now if it is not there."""
        if self._pipeline is None:
            self._pipeline = self._make_pipeline()
        return self._with_given(self._pipeline)

    def iterator(self, dataset: Dataset) -> Any:
        """Return an iterator over a pipeline of this module."""
        options = _untuned() if self._options is None else _untuned().merge(self._options)
        return iter(dataset.with_options(options))

    def _with_given(self, dataset: Dataset) -> Dataset:
        return dataset if self._options is None else dataset.with_options(self._options)


def sliced(arrays: Any, rows: int, batch_size: int, passes: int = 1) -> Dataset:
    """Return a pipeline that slices batches from arrays, as one of Keras does.

    Args:
        arrays: A structure of tensors with `passes * rows` rows, in their order.
        rows: The number of rows of a pass.
        batch_size: The number of rows of a batch. The last batch of a pass may have fewer; then the
            number is unknown in the pipeline's specification, as in Keras's.
        passes: The number of passes.
    """
    import tensorflow as tf

    from_slices, each = tf.data.Dataset.from_tensor_slices, tf.nest.map_structure
    number, rest = divmod(rows, batch_size)
    if passes == number == 1 and not rest:
        return tf.data.Dataset.from_tensors(_copies(arrays))

    whole = number * batch_size

    def batches(array: Tensor) -> Tensor:
        if rest:
            array = _part_of_passes(array, passes, slice(whole))
        return tf.reshape(array, [passes * number, batch_size, *array.shape[1:]])

    dataset = from_slices(each(batches, arrays))
    if not rest:
        return dataset
    last = each(lambda array: _part_of_passes(array, passes, slice(whole, None)), arrays)
    if passes == 1:
        return dataset.concatenate(tf.data.Dataset.from_tensors(_copies(last)))
    last = each(lambda array: tf.reshape(array, [passes, rest, *array.shape[1:]]), last)
    turns = tf.tile(tf.constant([0] * number + [1], tf.int64), [passes])
    return tf.data.Dataset.choose_from_datasets([dataset, from_slices(last)], from_slices(turns))


def _part_of_passes(array: Tensor, passes: int, part: slice) -> Tensor:
    """Return some of the rows of each pass, in one axis."""
    import tensorflow as tf

    if passes == 1:
        return array[part]
    by_pass = tf.reshape(array, [passes, -1, *array.shape[1:]])[:, part]
    return tf.reshape(by_pass, [-1, *array.shape[1:]])


def _copies(rows: Any) -> Any:
    """Return tensors that share no memory with the script's, as a batch of Keras."""
    import tensorflow as tf

    return tf.nest.map_structure(lambda array: tf.raw_ops.DeepCopy(x=array), rows)


@functools.cache
def _untuned() -> Any:
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return options
