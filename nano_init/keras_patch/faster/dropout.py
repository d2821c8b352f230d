"""Dropout with a vectorized random generator, applied in one pass.

The mask is the same as Keras draws in float32 for the same seed (keras/src/backend/
tensorflow/random.py, `dropout`; tensorflow/python/ops/nn_ops.py, `_dropout`). Under mixed_bfloat16
Keras draws numbers of seven random bits, so the rate is rounded to multiples of 1/128 (0.002
becomes 0.0078). Here bfloat16 uses the exact rate and the same mask as float32.
"""

from __future__ import annotations

import functools

from nano_init.keras_patch.faster.fallback import with_faster_path
from nano_init.keras_patch.faster.philox import random_words, unit_floats
from nano_init.keras_patch.faster.recording import may_be_differentiated
from nano_init.keras_patch.faster.xla_fusion import (
    as_shape_of,
    flattened,
    is_worth_an_island,
    island,
    pays_in_fit,
)
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from nano_init.keras_patch.tensor_types import Tensor

__all__ = ["dropout_replacements", "keep_mask"]

# tensorflow/core/framework/rng_alg.h, `RNG_ALG_PHILOX`.
_PHILOX = 1


def dropout_replacements() -> Iterator[Replacement]:
    """Yield the replacements that compute dropout in islands during training."""
    from keras.src.backend.tensorflow import random

    faster = with_faster_path("dropout", vars(random)["dropout"], _applies, _drop)
    yield Replacement(random, "dropout", faster)


def keep_mask(seed: Tensor, like: Tensor, rate: float, when: Tensor | None = None) -> Tensor:
    """Return the elements that dropout keeps, as uint8 of 0 and 1 in the shape of a tensor.

    Args:
        seed: int32 of shape [2].
        like: The tensor to drop elements of.
        when: The condition for the island that draws, from `pays_in_fit`.
        rate: The fraction to drop, between 0 and 1.
    """
    import tensorflow as tf

    key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)
    flat = flattened(like)
    packed = _packed_mask(key, counter, flat, tf.constant(rate, tf.float32), when=when)
    # This is free outside the island; inside, XLA would store the bytes one by one.
    return as_shape_of(like, flattened(tf.bitcast(packed, tf.uint8))[: tf.size(flat)])


def _applies(inputs: Any, rate: Any, noise_shape: Any = None, seed: Any = None) -> bool:
    del seed
    return (
        noise_shape is None
        and isinstance(rate, (int, float))
        and 0.0 < rate < 1.0
        and is_worth_an_island(inputs)
    )


def _drop(inputs: Tensor, rate: Any, noise_shape: Any = None, seed: Any = None) -> Tensor:
    del noise_shape
    import tensorflow as tf

    seed = _draw_seed(seed)
    when = pays_in_fit("dropout", inputs)
    mask = keep_mask(seed, inputs, float(rate), when)
    scale = tf.constant(1.0 / (1.0 - rate), tf.float32)

    def masked(values: Tensor) -> Tensor:
        parts = (flattened(values), flattened(mask), scale)
        return as_shape_of(inputs, _masked(*parts, when=when))

    def by_inputs(upstream: Tensor) -> Tensor:
        if may_be_differentiated():
            return _masked.plain(upstream, mask, scale)
        return masked(upstream)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def drop(inputs: Tensor) -> Any:
        return masked(inputs), by_inputs

    return drop(inputs)


def _draw_seed(seed: Any) -> Tensor:
    """Return the seed that Keras's own dropout draws, as int32 of shape [2]."""
    from keras.src.backend.tensorflow import random
    from keras.src.random.seed_generator import draw_seed

    if not hasattr(random, "_cast_seed"):
        return random.tf_draw_seed(seed)  # Keras 3.3
    return random._cast_seed(draw_seed(seed))


def _plain_packed_mask(key: Tensor, counter: Tensor, like: Tensor, rate: Tensor) -> Tensor:
    import tensorflow as tf

    size = tf.size(like)
    drawn = tf.raw_ops.StatelessRandomUniformV2(
        shape=size[tf.newaxis], key=key, counter=counter, alg=_PHILOX
    )
    kept = tf.pad(tf.cast(drawn >= rate, tf.uint8), [[0, -size % 4]])
    return tf.bitcast(tf.reshape(kept, [-1, 4]), tf.uint32)


@functools.partial(island, plain=_plain_packed_mask)
def _packed_mask(key: Tensor, counter: Tensor, like: Tensor, rate: Tensor) -> Tensor:
    import tensorflow as tf

    groups = (tf.size(like) + 3) // 4
    kept = [tf.cast(unit_floats(w) >= rate, tf.uint32) for w in random_words(key, counter, groups)]
    bytes_1_to_3 = (
        tf.bitwise.left_shift(kept[place], tf.constant(8 * place, tf.uint32)) for place in (1, 2, 3)
    )
    return sum(bytes_1_to_3, start=kept[0])


@island
def _masked(inputs: Tensor, mask: Tensor, scale: Tensor) -> Tensor:
    import tensorflow as tf

    scaled = tf.cast(tf.cast(inputs, tf.float32) * scale, inputs.dtype)
    return tf.where(mask != 0, scaled, tf.zeros_like(scaled))
