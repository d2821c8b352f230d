"""The batches of small arrays: rows in order first, then a pipeline that only slices them."""

from __future__ import annotations

import copy
import functools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Dataset, Tensor

__all__ = ["ArrayBatches", "applies_to"]

# The size of the arrays in bytes up to which putting all rows in order is faster than tracing.
_LARGEST = 2**22


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


class ArrayBatches:
    """What Keras's trainer iterates over in place of a pipeline: each iterator is one pass.

    Args:
        adapter: Keras's `ArrayDataAdapter`.
        seeded_order: Takes the number of rows and the global seed; returns the order in which
            Keras's pipeline takes the rows, as int64.
    """

    def __init__(self, adapter: Any, seeded_order: Callable[[int, int], Tensor]) -> None:
        import tensorflow as tf
        from keras.src import tree
        from keras.src.trainers.data_adapters import array_slicing

        arrays = array_slicing.convert_to_sliceable(adapter._inputs, target_backend="tensorflow")
        self._arrays = tf.nest.map_structure(tf.convert_to_tensor, tree.lists_to_tuples(arrays))
        self._rows: int = adapter._num_samples
        self._batch_size: int = adapter._batch_size
        self._is_shuffled: bool = adapter._shuffle
        self._seeded_order = seeded_order
        self._options = _options()

    def with_options(self, options: Any) -> ArrayBatches:
        """Return the same batches with more options for the pipelines, as datasets do.

        Args:
            options: A `tf.data.Options`.
        """
        other = copy.copy(self)
        other._options = self._options.merge(options)
        return other

    def __iter__(self) -> Any:
        """Return an iterator over the batches, in a new order if the arrays are shuffled."""
        return iter(self._dataset().with_options(self._options))

    def _dataset(self) -> Dataset:
        import tensorflow as tf

        rows = self._in_order()
        number, rest = divmod(self._rows, self._batch_size)
        if number == 1 and not rest:
            return tf.data.Dataset.from_tensors(rows)
        whole = number * self._batch_size

        def batches(array: Tensor) -> Tensor:
            return tf.reshape(array[:whole], [number, self._batch_size, *array.shape[1:]])

        dataset = tf.data.Dataset.from_tensor_slices(tf.nest.map_structure(batches, rows))
        if not rest:
            return dataset
        last = tf.nest.map_structure(lambda array: array[whole:], rows)
        return dataset.concatenate(tf.data.Dataset.from_tensors(last))

    def _in_order(self) -> Any:
        import tensorflow as tf

        if not self._is_shuffled:
            return self._arrays
        order = self._order()
        return tf.nest.map_structure(lambda array: tf.gather(array, order), self._arrays)

    def _order(self) -> Tensor:
        import tensorflow as tf
        from tensorflow.python.eager import context

        seed = context.global_seed()
        if seed is not None:
            return self._seeded_order(self._rows, seed)
        return tf.random.shuffle(tf.range(self._rows, dtype=tf.int64))


@functools.cache
def _options() -> Any:
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return options
