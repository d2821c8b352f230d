"""The batches of small arrays: rows in order first, then a pipeline that only slices them."""

from __future__ import annotations

import copy
import functools

from nano_init.keras_patch.faster.array_slices import (
    LARGEST,
    LARGEST_BATCH,
    SeededOrders,
    SlicedArrays,
    bytes_of,
    is_dense,
    is_seed_known,
    leaves_of,
    sliced,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from nano_init.keras_patch.tensor_types import Dataset, Tensor

__all__ = ["ArrayBatches", "applies_to", "seeded_orders"]


def applies_to(adapter: Any) -> bool:
    """Say whether the arrays of an `ArrayDataAdapter` are dense, and small or one batch."""
    import numpy as np
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    leaves = list(leaves_of(adapter._inputs))
    size = adapter._batch_size
    return (
        type(adapter) is ArrayDataAdapter
        and isinstance(adapter._shuffle, bool)
        and isinstance(size, (int, np.integer))
        and 0 < int(size) < LARGEST_BATCH
        and adapter._num_samples > 0
        and is_seed_known()
        and all(is_dense(leaf) for leaf in leaves)
        and (_needs_no_order(adapter) or sum(map(bytes_of, leaves)) <= LARGEST)
    )


def _needs_no_order(adapter: Any) -> bool:
    return not adapter._shuffle and adapter._size == 1


def seeded_orders(get_dataset: Callable[[Any], Dataset]) -> SeededOrders:
    """Return the orders of Keras's pipeline. Each pass over it takes the same order.

    Args:
        get_dataset: Keras's `ArrayDataAdapter.get_tf_dataset`.
    """

    def find(rows: int, passes: int) -> Tensor:
        import numpy as np
        import tensorflow as tf
        from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

        del passes
        adapter = ArrayDataAdapter(np.arange(rows), shuffle=True, batch_size=rows)
        return tf.stack(tf.nest.flatten(next(iter(get_dataset(adapter)))))

    return SeededOrders(find)


class ArrayBatches(SlicedArrays):
    """What Keras's trainer iterates over in place of a pipeline: each iterator is one pass.

    The arrays and the seed are those of its creation, as with Keras's pipeline.

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
        kept = copy.copy(adapter)
        kept._inputs = tf.nest.map_structure(tf.convert_to_tensor, tree.lists_to_tuples(arrays))
        super().__init__(kept._inputs, functools.partial(get_dataset, kept))
        self._rows = int(adapter._num_samples)
        self._batch_size = int(adapter._batch_size)
        self._is_shuffled: bool = adapter._shuffle
        self._seed: int | None = context.global_seed()
        self._orders = orders
        # Whether the order is unknown, so that Keras's pipeline takes the first pass.
        self._is_new = self._is_shuffled and self._seed is not None and self._order() is None
        if self._is_new:
            self._pipeline = self._make_pipeline()  # while the seed is in use

    def __iter__(self) -> Any:
        """Return an iterator over the batches, in a new order if the arrays are shuffled."""
        import tensorflow as tf

        if not self._is_shuffled:
            return self._pass(self._arrays)
        is_new, self._is_new = self._is_new, False
        order = None if is_new else self._order()
        if order is None:
            return iter(self.keras_pipeline())
        return self._pass(
            tf.nest.map_structure(lambda array: tf.gather(array, order), self._arrays)
        )

    def _order(self) -> Tensor | None:
        import tensorflow as tf

        if self._seed is not None:
            orders = self._orders.orders(self._rows, self._seed)
            return None if orders is None else orders[0]
        # Not `tf.random.shuffle`, for which the script may have set a seed in the meantime.
        return tf.raw_ops.RandomShuffle(value=tf.range(self._rows, dtype=tf.int64))

    def _pass(self, rows: Any) -> Any:
        return self.iterator(sliced(rows, self._rows, self._batch_size))
