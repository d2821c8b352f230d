"""Split a batch into two halves whose loops run in parallel.

One step of a recurrent layer is a small product and a few small elementwise ops. For each of them a
second thread gains less than it costs to wake it. It gains more by running the steps of the other
half of the batch, which do not depend on the first half.
"""

from __future__ import annotations

from nano_init.keras_patch.faster.xla_fusion import is_compiled_by_xla, is_in_fit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from nano_init.keras_patch.tensor_types import Tensor

__all__ = ["count_parts", "join_batch", "split_batch"]

# Products of fewer rows do not get faster.
_FEWEST_ROWS = 16


def count_parts(batch: int | None) -> int:
    """Return 2 if halves pay off, otherwise 1.

    Args:
        batch: The batch size. An unknown size counts as large enough in a step of Keras's own
            `fit`; a custom loop with an unknown size may vary it.
    """
    is_large = is_in_fit() if batch is None else batch >= 2 * _FEWEST_ROWS
    return 2 if is_large and _has_two_threads() and not is_compiled_by_xla() else 1


def split_batch(tensor: Tensor | None, parts: int) -> list[Tensor | None]:
    """Return the parts of a batch; the parts of None are None.

    Args:
        tensor: None or a tensor with the batch first.
        parts: 1, or 2 for halves; in an odd batch the first half is the smaller one.
    """
    import tensorflow as tf

    if parts == 1 or tensor is None:
        return [tensor] * parts
    size = tf.shape(tensor)[0] if tensor.shape[0] is None else tensor.shape[0]
    # Not slices, because the gradient of each is as large as the whole.
    return list(tf.split(tensor, [size // 2, size - size // 2]))


def join_batch(parts: Sequence[Tensor]) -> Tensor:
    """Return the whole batch from the parts of `split_batch`."""
    import tensorflow as tf

    return parts[0] if len(parts) == 1 else tf.concat(parts, 0)


def _has_two_threads() -> bool:
    """Say whether TensorFlow runs two loops in parallel, as it does by default."""
    import os

    import tensorflow as tf

    # 0 means as many as there are processors.
    threads = tf.config.threading.get_inter_op_parallelism_threads()
    return (threads or os.cpu_count() or 1) > 1
