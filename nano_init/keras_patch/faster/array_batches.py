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

_MOST_ORDERS = 16


def applies_to(adapter: Any) -> bool:
    """Say whether the arrays of an `ArrayDataAdapter` are dense, and small or one batch."""
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    leaves = list(_leaves(adapter._inputs))
    return (
        type(adapter) is ArrayDataAdapter
        and isinstance(adapter._shuffle, bool)
        and adapter._num_samples > 0
        and all(_is_dense(leaf) for leaf in leaves)
        and (_needs_no_copy(adapter) or sum(map(_bytes_of, leaves)) <= _LARGEST)
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


def _needs_no_copy(adapter: Any) -> bool:
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
        the number of rows does not come again.
        """
        key = rows, seed
        if key not in self._orders:
            if len(self._orders) >= _MOST_ORDERS:
                self._orders.clear()
            self._orders[key] = None
        elif self._orders[key] is None:
            self._orders[key] = self._found(rows)
        return self._orders[key]

    def _found(self, rows: int) -> Tensor:
        import numpy as np
        import tensorflow as tf
        from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

        adapter = ArrayDataAdapter(np.arange(rows), shuffle=True, batch_size=rows)
        (order,) = tf.nest.flatten(next(iter(self._get_dataset(adapter))))
        return order


class ArrayBatches:
    """What Keras's trainer iterates over in place of a pipeline: each iterator is one pass.

    Everything else that a dataset has is that of Keras's pipeline.

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

        arrays = array_slicing.convert_to_sliceable(adapter._inputs, target_backend="tensorflow")
        self._arrays = tf.nest.map_structure(tf.convert_to_tensor, tree.lists_to_tuples(arrays))
        self._rows: int = adapter._num_samples
        self._batch_size: int = adapter._batch_size
        self._is_shuffled: bool = adapter._shuffle
        self._orders = orders
        self._pipeline = functools.partial(get_dataset, adapter)
        self._options: Any = None

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
        from tensorflow.python.eager import context

        rows, seed = self._arrays, context.global_seed()
        if self._is_shuffled:
            if seed is None:
                order = tf.random.shuffle(tf.range(self._rows, dtype=tf.int64))
            else:
                order = self._orders.order(self._rows, seed)
            if order is None:
                return iter(self._keras_pipeline())
            rows = tf.nest.map_structure(lambda array: tf.gather(array, order), rows)
        return iter(self._with_given(self._sliced(rows).with_options(_untuned())))

    def _keras_pipeline(self) -> Dataset:
        return self._with_given(self._pipeline())

    def _with_given(self, dataset: Dataset) -> Dataset:
        return dataset if self._options is None else dataset.with_options(self._options)

    def _sliced(self, rows: Any) -> Dataset:
        import tensorflow as tf

        number, rest = divmod(self._rows, self._batch_size)
        if number == 1 and not rest:
            return tf.data.Dataset.from_tensors(rows)
        whole = number * self._batch_size

        def batches(array: Tensor) -> Tensor:
            return tf.reshape(array[:whole], [number, self._batch_size, *array.shape[1:]])

        dataset = tf.data.Dataset.from_tensor_slices(tf.nest.map_structure(batches, rows))
        if not rest:
            return dataset
        # The number of rows of a batch is unknown, as in Keras's pipeline.
        last = tf.nest.map_structure(lambda array: array[whole:], rows)
        return dataset.concatenate(tf.data.Dataset.from_tensors(last))


@functools.cache
def _untuned() -> Any:
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return options
