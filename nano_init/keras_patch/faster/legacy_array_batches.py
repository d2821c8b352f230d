"""The batches of small arrays in Keras 2 (`tf_keras`): rows in order first, then slices."""

from __future__ import annotations

from nano_init.frozen import frozen
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
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from nano_init.keras_patch.tensor_types import Dataset, Tensor

__all__ = ["LegacyBatches", "Sizes", "applies_to", "found_orders", "orders_in_use"]

# The size in bytes, and the number of passes, that are put in order at once.
_AT_ONCE = 2**20
_PASSES_AT_ONCE = 32

# The largest number of ids in the orders of all passes after `tf.random.set_seed`.
_MOST_SEEDED = 2**17

_DATA = ("x", "y", "sample_weights")


@frozen
class Sizes:
    """The sizes of a call of `fit`, `evaluate` or `predict`.

    Args:
        rows: The number of rows.
        batch: The number of rows of a batch.
        passes: The number of passes over the rows.
    """

    rows: int
    batch: int
    passes: int


def applies_to(options: Mapping[str, Any]) -> bool:
    """Say whether Keras would make a pipeline of dense arrays, small or one batch.

    Args:
        options: The arguments of `TensorLikeDataAdapter.__init__`.
    """
    size, epochs = options["batch_size"], options["epochs"]
    parts = [
        list(leaves_of(part)) for part in (options[name] for name in _DATA) if part is not None
    ]
    return (
        options["steps"] is None
        and options["sample_weight_modes"] is None
        and isinstance(options["shuffle"], (bool, type(None)))
        and isinstance(epochs, int)
        and epochs > 0
        and isinstance(size, (int, type(None)))
        and (size is None or 0 < size < LARGEST_BATCH)
        and is_seed_known()
        # Keras ignores sample weights without any array.
        and all(parts)
        and all(is_dense(leaf) and len(leaf.shape) > 0 for part in parts for leaf in part)
        and (_is_one_batch(parts[0][0], options) or _are_small(parts))
    )


def _is_one_batch(array: Any, options: Mapping[str, Any]) -> bool:
    return not options["shuffle"] and int(array.shape[0]) <= (options["batch_size"] or 32)


def _are_small(parts: list[list[Any]]) -> bool:
    return sum(bytes_of(leaf) for part in parts for leaf in part) <= LARGEST


def found_orders(init: Callable[..., None], rows: int, passes: int) -> Tensor:
    """Return the orders of Keras's pipeline with the seed in use, int64 of shape [passes, rows].

    Args:
        init: Keras's `TensorLikeDataAdapter.__init__`.
        rows: The number of rows.
        passes: The number of passes of one iterator, each with another order.
    """
    import numpy as np
    import tensorflow as tf
    from tf_keras.src.engine.data_adapter import TensorLikeDataAdapter

    adapter = object.__new__(TensorLikeDataAdapter)
    init(adapter, np.arange(rows), batch_size=rows, epochs=passes, shuffle=True)
    options = tf.data.Options()
    options.autotune.enabled = False
    return tf.stack(list(adapter._dataset.with_options(options)))


def orders_in_use(orders: SeededOrders, sizes: Sizes) -> Callable[[int, int], Tensor] | None:
    """Return a function that gives the orders of some passes with the global seed of now.

    Args:
        orders: The orders after `tf.random.set_seed`.
        sizes: The sizes of the call.

    Returns:
        A function that takes the number of the first pass and that of passes, and returns their
        orders, int64 of shape [passes, rows]; None if the orders are not known.
    """
    import tensorflow as tf
    from tensorflow.python.eager import context

    seed = context.global_seed()
    if seed is None:
        # Not `tf.random.shuffle`, for which the script may have set a seed in the meantime.
        ids = tf.range(sizes.rows, dtype=tf.int64)
        return lambda _, passes: tf.stack(
            [tf.raw_ops.RandomShuffle(value=ids) for _ in range(passes)]
        )
    if sizes.rows * sizes.passes > _MOST_SEEDED:
        return None
    known = orders.orders(sizes.rows, seed, sizes.passes)
    return None if known is None else lambda first, passes: known[first : first + passes]


class LegacyBatches(SlicedArrays):
    """What Keras 2's trainer iterates over in place of a pipeline.

    Args:
        arrays: The arrays, a structure of tensors.
        sizes: The sizes of the call.
        orders: Gives the orders of passes, see `orders_in_use`; None for the rows' own.
        make_pipeline: Makes Keras's pipeline of all passes.
    """

    def __init__(
        self,
        arrays: Any,
        sizes: Sizes,
        orders: Callable[[int, int], Tensor] | None,
        make_pipeline: Callable[[], Dataset],
    ) -> None:
        super().__init__(arrays, make_pipeline)
        self.sizes = sizes
        self._orders = orders
        self._in_order: Dataset | None = None

    @property
    def passes(self) -> int:
        """The number of passes."""
        return self.sizes.passes

    def __iter__(self) -> Any:
        """Return an iterator over the batches of all passes."""
        return iter(self.keras_pipeline())

    def iterators(self) -> Iterator[Any]:
        """Yield, for each pass, an iterator that is at its first batch.

        If each pass is read to its end, they give the batches that one iterator of Keras gives.
        """
        first = 0
        while first < self.passes:
            at_once = min(self._passes_at_once(), self.passes - first)
            iterator = self.iterator(self._batches(first, at_once))
            for _ in range(at_once):
                yield iterator
            first += at_once

    def _passes_at_once(self) -> int:
        import tensorflow as tf

        if self._orders is None:
            return self.passes
        size = sum(map(bytes_of, tf.nest.flatten(self._arrays)))
        return min(_PASSES_AT_ONCE, max(1, _AT_ONCE // max(1, size)))

    def _batches(self, first: int, passes: int) -> Dataset:
        import tensorflow as tf

        rows, batch = self.sizes.rows, self.sizes.batch
        if self._orders is None:
            if self._in_order is None:
                self._in_order = sliced(self._arrays, rows, batch)
            return self._in_order if passes == 1 else self._in_order.repeat(passes)
        order = tf.reshape(self._orders(first, passes), [-1])
        ordered = tf.nest.map_structure(lambda array: tf.gather(array, order), self._arrays)
        return sliced(ordered, rows, batch, passes)
