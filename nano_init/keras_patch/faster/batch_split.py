"""A batch in two halves, which loop through their steps at the same time.

One step of a recurrent layer is a small product and a few small elementwise ops, on each of which
a second thread gains less than it takes to wake it. It gains more on steps of its own: those of
the other half of the batch, which wait for nothing in the first.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.xla_fusion import is_compiled_by_xla, is_in_fit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nano_init.keras_patch.tensor_types import Tensor

__all__ = ["count_parts", "join_batch", "split_batch"]

# Products of fewer rows are not faster for it.
_FEWEST_ROWS = 16


def count_parts(batch: int | None) -> int:
    """Return 2 if halves pay, else 1.

    Args:
        batch: The size of the batch. One that is unknown is large enough in a step of Keras's
            own `fit`; a custom loop that leaves it open may vary it.
    """
    is_large = is_in_fit() if batch is None else batch >= 2 * _FEWEST_ROWS
    return 2 if is_large and _has_two_threads() and not is_compiled_by_xla() else 1


def split_batch(tensor: Tensor | None, parts: int) -> list[Tensor | None]:
    """Return the parts of a batch; None has parts that are None.

    Args:
        tensor: None or a tensor with the batch first.
        parts: 1, or 2 for halves; the first is the smaller one of an odd batch.
    """
    import tensorflow as tf

    if parts == 1 or tensor is None:
        return [tensor] * parts
    size = tf.shape(tensor)[0] if tensor.shape[0] is None else tensor.shape[0]
    # Not slices, whose gradients are as large as the whole each.
    return list(tf.split(tensor, [size // 2, size - size // 2]))


def join_batch(parts: Sequence[Tensor]) -> Tensor:
    """Return the whole batch of what `split_batch` gave."""
    import tensorflow as tf

    return parts[0] if len(parts) == 1 else tf.concat(parts, 0)


def _has_two_threads() -> bool:
    """Say whether TensorFlow runs two loops at the same time, as it does by default."""
    import os

    import tensorflow as tf

    # 0 is as many as there are processors.
    threads = tf.config.threading.get_inter_op_parallelism_threads()
    return (threads or os.cpu_count() or 1) > 1
