"""The message format of a sum: small values as one vector, half precision as float32."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from nano_init.distributed.shared_memory_group import SharedMemoryGroup
    from nano_init.keras_patch.tensor_types import DType, IndexedSlices, Tensor

__all__ = ["SumMessage", "cast", "pack", "unpack", "weighted", "widened"]

# Passing a tensor to Python costs about 8 us, a part of a vector 2 us.
_SMALL = 1 << 14


class SumMessage:
    """What is passed to Python and back, in this order: dense values, then rows and ids.

    Args:
        values: Floating tensors and `IndexedSlices`.
        weight: A scalar that multiplies all values, or None.
    """

    def __init__(self, values: Sequence[Tensor | IndexedSlices], weight: Tensor | None) -> None:
        import tensorflow as tf

        self._values = list(values)
        is_sparse = [isinstance(value, tf.IndexedSlices) for value in values]
        self._sparse = [i for i, sparse in enumerate(is_sparse) if sparse]
        self._dense = [i for i, sparse in enumerate(is_sparse) if not sparse]
        self._weight = None if weight is None else tf.cast(weight, tf.float64)
        self._packs = pack([(i, widened(self._values[i])) for i in self._dense])
        packed = [tensor for _, tensor in self._packs]
        rows = [weighted(self._values[i], weight) for i in self._sparse]
        tables = [part for each in rows for part in (each.values, each.indices)]
        self._kinds = [tensor.dtype for tensor in packed]
        self.dtypes = [tensor.dtype for tensor in (*packed, *tables)]
        self.tensors = [*packed, *tables, *([] if weight is None else [self._weight])]

    def answer(self, arrays: Sequence[Any], group: SharedMemoryGroup) -> list[Any]:
        """All-reduce the arrays with the other workers; called while the step runs."""
        weight = None if self._weight is None else arrays[-1]
        count = len(self._kinds)
        answers: list[Any] = [None] * count
        for dtype in dict.fromkeys(self._kinds):
            places = [i for i, kind in enumerate(self._kinds) if kind == dtype]
            sums = group.all_reduce([arrays[i] for i in places], weight)
            for place, total in zip(places, sums, strict=True):
                answers[place] = total
        answers += [group.all_gather(array) for array in arrays[count : len(self.dtypes)]]
        return answers

    def unpack(self, answers: Sequence[Tensor]) -> list[Tensor | IndexedSlices]:
        """Return the sums of the values from the results."""
        import tensorflow as tf

        sums: list[Tensor | IndexedSlices] = list(self._values)
        for (numbers, sent), total in zip(self._packs, answers, strict=False):
            total.set_shape(sent.shape)
            for i, part in unpack(numbers, total, self._values):
                sums[i] = cast(part, self._values[i].dtype)
        tables = answers[len(self._packs) :]
        for i, rows, ids in zip(self._sparse, tables[::2], tables[1::2], strict=True):
            own = self._values[i]
            rows.set_shape([None, *own.values.shape[1:]])
            ids.set_shape([None])
            sums[i] = tf.IndexedSlices(rows, ids, own.dense_shape)
        return sums


def widened(value: Tensor) -> Tensor:
    """Return a tensor in its summation dtype: float64 stays, others become float32."""
    import tensorflow as tf

    return value if value.dtype == tf.float64 else cast(value, tf.float32)


def pack(values: Sequence[tuple[int, Tensor]]) -> list[tuple[list[int], Tensor]]:
    """Return indexed values in message format: the small ones of a dtype as one vector."""
    import tensorflow as tf

    packs: list[tuple[list[int], Tensor]] = []
    small: dict[DType, list[tuple[int, Tensor]]] = {}
    for i, value in values:
        size = value.shape.num_elements()
        if size is not None and size < _SMALL:
            small.setdefault(value.dtype, []).append((i, value))
        else:
            packs.append(([i], value))
    for group in small.values():
        numbers = [i for i, _ in group]
        parts = [tf.reshape(value, [-1]) for _, value in group]
        packs.append((numbers, tf.concat(parts, 0) if len(parts) > 1 else group[0][1]))
    return packs


def unpack(
    numbers: Sequence[int], total: Tensor, values: Sequence[Tensor | IndexedSlices]
) -> list[tuple[int, Tensor]]:
    """Split a total into the indexed sums that `pack` combined.

    Args:
        numbers: The indices of these values.
        total: The total.
        values: All values, for their shapes.
    """
    import tensorflow as tf

    if len(numbers) == 1:
        return [(numbers[0], total)]
    shapes = [values[i].shape for i in numbers]
    parts = tf.split(total, [shape.num_elements() for shape in shapes])
    shaped = [tf.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]
    return list(zip(numbers, shaped, strict=True))


def weighted(value: Tensor | IndexedSlices, weight: Tensor | None) -> Tensor | IndexedSlices:
    """Return a value multiplied by a scalar, if there is one."""
    import tensorflow as tf

    if weight is None:
        return value
    if isinstance(value, tf.IndexedSlices):
        values = value.values * tf.cast(weight, value.values.dtype)
        return tf.IndexedSlices(values, value.indices, value.dense_shape)
    return value * tf.cast(weight, value.dtype)


def cast(value: Tensor | IndexedSlices, dtype: DType) -> Tensor | IndexedSlices:
    """Return a value in a dtype."""
    import tensorflow as tf

    return value if value.dtype == dtype else tf.cast(value, dtype)
