"""Philox 4x32-10, the counter-based generator of TensorFlow's stateless random ops.

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. TensorFlow computes it
one counter at a time (tensorflow/core/lib/random/philox_random.h). Here it consists of tensor ops,
so XLA computes a vector of counters at once, with the same results.
"""

from __future__ import annotations

import functools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nano_init.keras_patch.tensor_types import Tensor

__all__ = ["random_words", "unit_floats"]

_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def random_words(
    key: Tensor, counter: Tensor, groups: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the generator's output for consecutive counters.

    Args:
        key: uint64 of shape [1], from `StatelessRandomGetKeyCounter`.
        counter: uint64 of shape [2], the lower half first.
        groups: The number of counters, n.

    Returns:
        Four uint32 tensors of shape [n]; the op's i-th number is element i // 4 of tensor i % 4.
    """
    import tensorflow as tf

    low = counter[0] + tf.cast(tf.range(tf.cast(groups, tf.int64)), tf.uint64)
    high = counter[1] + tf.cast(low < counter[0], tf.uint64)
    state = (_low(low), _high(low), _low(high), _high(high))
    keys = tf.stack([_low(key[0]), _high(key[0])])
    values = (*state, keys)
    one_round = _round_function()
    for _ in range(_ROUNDS):
        types = [value.dtype for value in values]
        values = tf.raw_ops.PartitionedCall(args=values, Tout=types, f=one_round)
    first, second, third, fourth, _ = values
    return first, second, third, fourth


@functools.cache
def _round_function() -> Any:
    """Return one round as a function in the graph, which is traced once for all ten."""
    import tensorflow as tf

    words = [tf.TensorSpec([None], tf.uint32)] * 4
    function = tf.function(_round, autograph=False)
    with tf.init_scope(), tf.device(None):
        return function.get_concrete_function(*words, tf.TensorSpec([2], tf.uint32))


def _round(first: Tensor, second: Tensor, third: Tensor, fourth: Tensor, keys: Tensor) -> Any:
    import tensorflow as tf

    high_0, low_0 = _product(first, _MULTIPLIERS[0])
    high_1, low_1 = _product(third, _MULTIPLIERS[1])
    state = (high_1 ^ second ^ keys[0], low_1, high_0 ^ fourth ^ keys[1], low_0)
    return *state, keys + tf.constant(_WEYL, tf.uint32)


def unit_floats(words: Tensor) -> Tensor:
    """Return uint32 words as float32 in [0, 1), as TensorFlow does.

    The lower 23 bits become the mantissa (tensorflow/core/lib/random/random_distributions.h,
    `Uint32ToFloat`).
    """
    import tensorflow as tf

    mantissa = tf.bitwise.bitwise_and(words, _word(0x7FFFFF))
    return tf.bitcast(tf.bitwise.bitwise_or(mantissa, _word(127 << 23)), tf.float32) - 1.0


def _product(words: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    import tensorflow as tf

    product = tf.cast(words, tf.uint64) * tf.constant(multiplier, tf.uint64)
    return _high(product), _low(product)


def _low(value: Tensor) -> Tensor:
    import tensorflow as tf

    return tf.cast(value, tf.uint32)


def _high(value: Tensor) -> Tensor:
    import tensorflow as tf

    return tf.cast(tf.bitwise.right_shift(value, tf.constant(32, tf.uint64)), tf.uint32)


def _word(value: int) -> Tensor:
    import tensorflow as tf

    return tf.constant(value, tf.uint32)
