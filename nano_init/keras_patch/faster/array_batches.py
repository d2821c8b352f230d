"""The batches of small arrays: rows in order first, then a pipeline that only slices them."""

from __future__ import annotations

import copy
import functools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Dataset, Tensor

__all__ = ["ArrayBatches", "SeededOrders", "applies_to"]

# The size of the arrays in bytes up to which putting all rows in order is faster than tracing.
_LARGEST = 2**22

# Sizes are int32 in TensorFlow's slices.
_LARGEST_BATCH = 2**31

_MOST_ORDERS = 16


def applies_to(adapter: Any) -> bool:
    """Say whether the arrays of an `ArrayDataAdapter` are dense, and small or one batch."""
    import numpy as np
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter
    from tensorflow.python.eager import context

    leaves = list(_leaves(adapter._inputs))
    size = adapter._batch_size
    return (
        type(adapter) is ArrayDataAdapter
        and isinstance(adapter._shuffle, bool)
        and isinstance(size, (int, np.integer))
        and 0 < int(size) < _LARGEST_BATCH
        and adapter._num_samples > 0
        # As a key, and for Keras's own complaint about another seed.
        and isinstance(context.global_seed(), (int, type(None)))
        and all(_is_dense(leaf) for leaf in leaves)
        and (_needs_no_order(adapter) or sum(map(_bytes_of, leaves)) <= _LARGEST)
    )


def _leaves(structure: Any) -> Iterator[Any]:
    if type(structure) in (list, tuple):
        for part in structure:
            yield from _leaves(part)
    elif type(structure) is dict:
        yield from _leaves(list(structure.values()))
    else:
        yield structure


def _is_dense(leaf: Any) -> bool:
    import numpy as np
    import tensorflow as tf

    if isinstance(leaf, np.ndarray):
        return leaf.dtype.kind in "biuf"
    if not isinstance(leaf, tf.__internal__.EagerTensor):
        return False
    return bool(leaf.dtype.is_floating or leaf.dtype.is_integer or leaf.dtype.is_bool)


def _bytes_of(leaf: Any) -> int:
    import numpy as np

    size = leaf.dtype.itemsize if isinstance(leaf, np.ndarray) else leaf.dtype.size
    return int(np.prod(leaf.shape, dtype=np.int64)) * int(size)


def _needs_no_order(adapter: Any) -> bool:
    return not adapter._shuffle and adapter._size == 1


class SeededOrders:
    """The orders in which Keras's pipeline takes rows after `tf.random.set_seed`.

    Each pass over that pipeline takes the same order, which depends on the seed and the number of
    rows alone.

    Args:
        get_dataset: Keras's `ArrayDataAdapter.get_tf_dataset`.
    """

    def __init__(self, get_dataset: Callable[[Any], Dataset]) -> None:
        self._get_dataset = get_dataset
        self._orders: dict[tuple[int, int], Tensor | None] = {}

    def order(self, rows: int, seed: int) -> Tensor | None:
        """Return the order of the rows, int64; None when it is asked for the first time.

        To find an order takes as long as one call with Keras's pipeline, which would be lost if
        the number of rows does not come again. It can only be found while the seed is in use.

        Args:
            rows: The number of rows.
            seed: The global seed when Keras would have made its pipeline.
        """
        key = rows, seed
        if key not in self._orders:
            if len(self._orders) >= _MOST_ORDERS:
                self._orders.clear()
            self._orders[key] = None
            return None
        known = self._orders.get(key)
        if known is None:
            known = self._found(rows, seed)
            self._orders[key] = known
        return known

    def _found(self, rows: int, seed: int) -> Tensor | None:
        import numpy as np
        import tensorflow as tf
        from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter
        from tensorflow.python.eager import context

        if context.global_seed() != seed:
            return None
        adapter = ArrayDataAdapter(np.arange(rows), shuffle=True, batch_size=rows)
        (order,) = tf.nest.flatten(next(iter(self._get_dataset(adapter))))
        # Another thread may have changed it.
        return order if context.global_seed() == seed else None


class ArrayBatches:
    """What Keras's trainer iterates over in place of a pipeline: each iterator is one pass.

    The arrays and the seed are those of its creation, as with Keras's pipeline. Everything else
    that a dataset has is that of Keras's pipeline.

    Args:
        adapter: Keras's `ArrayDataAdapter`.
        get_dataset: Makes Keras's pipeline for an adapter.
        orders: The orders after `tf.random.set_seed`.
    """

    def __init__(
        self, adapter: Any, get_dataset: Callable[[Any], Dataset], orders: SeededOrders
    ) -> None:
        import tensorflow as tf
        from keras.src import tree
        from keras.src.trainers.data_adapters import array_slicing
        from tensorflow.python.eager import context

        arrays = array_slicing.convert_to_sliceable(adapter._inputs, target_backend="tensorflow")
        self._arrays = tf.nest.map_structure(tf.convert_to_tensor, tree.lists_to_tuples(arrays))
        self._rows = int(adapter._num_samples)
        self._batch_size = int(adapter._batch_size)
        self._is_shuffled: bool = adapter._shuffle
        self._seed: int | None = context.global_seed()
        self._orders = orders
        self._options: Any = None
        kept = copy.copy(adapter)
        kept._inputs = self._arrays
        self._make_pipeline = functools.partial(get_dataset, kept)
        self._pipeline: Dataset | None = None
        # Whether the order is unknown, so that Keras's pipeline takes the first pass.
        self._is_new = self._is_shuffled and self._seed is not None and self._order() is None
        if self._is_new:
            self._pipeline = self._make_pipeline()  # while the seed is in use

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of Keras's pipeline."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._keras_pipeline(), name)

    def with_options(self, options: Any) -> ArrayBatches:
        """Return the same batches with options for the pipelines, as a dataset does.

        Args:
            options: A `tf.data.Options`.
        """
        other = copy.copy(self)
        other._options = options if self._options is None else self._options.merge(options)
        return other

    def __iter__(self) -> Any:
        """Return an iterator over the batches, in a new order if the arrays are shuffled."""
        import tensorflow as tf

        if not self._is_shuffled:
            return self._iterator(self._arrays)
        is_new, self._is_new = self._is_new, False
        order = None if is_new else self._order()
        if order is None:
            return iter(self._keras_pipeline())
        return self._iterator(
            tf.nest.map_structure(lambda array: tf.gather(array, order), self._arrays)
        )

    def _order(self) -> Tensor | None:
        import tensorflow as tf

        if self._seed is not None:
            return self._orders.order(self._rows, self._seed)
        # Not `tf.random.shuffle`, for which the script may have set a seed in the meantime.
        return tf.raw_ops.RandomShuffle(value=tf.range(self._rows, dtype=tf.int64))

    def _keras_pipeline(self) -> Dataset:
        if self._pipeline is None:
            self._pipeline = self._make_pipeline()
        return self._with_given(self._pipeline)

    def _with_given(self, dataset: Dataset) -> Dataset:
        return dataset if self._options is None else dataset.with_options(self._options)

    def _iterator(self, rows: Any) -> Any:
        return iter(self._with_given(self._sliced(rows).with_options(_untuned())))

    def _sliced(self, rows: Any) -> Dataset:
        import tensorflow as tf

        number, rest = divmod(self._rows, self._batch_size)
        if number == 1 and not rest:
            return tf.data.Dataset.from_tensors(_copies(rows))
        whole = number * self._batch_size

        def batches(array: Tensor) -> Tensor:
            return tf.reshape(array[:whole], [number, self._batch_size, *array.shape[1:]])

        dataset = tf.data.Dataset.from_tensor_slices(tf.nest.map_structure(batches, rows))
        if not rest:
            return dataset
        # The number of rows of a batch is unknown, as in Keras's pipeline.
        last = tf.nest.map_structure(lambda array: array[whole:], rows)
        return dataset.concatenate(tf.data.Dataset.from_tensors(_copies(last)))


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
