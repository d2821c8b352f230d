"""Random numbers that are equal on all workers where they must be, and only there.

Every worker runs the same program and takes its own shard of each batch. So shuffles, splits and
initial weights must be the same on all workers. Dropout must differ, or the workers would drop the
same units in their shards and lose part of the noise.
"""

from __future__ import annotations

import functools

from nano_init.distributed.batch_shard import current_shard
from nano_init.keras_patch.ledger import Replacement

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ["randomness_replacements", "seed_numpy"]

# The seeds of neighbouring workers must not coincide with a generator's consecutive seeds.
_STRIDE = 1_000_003


def seed_numpy(seed: int) -> None:
    """Seed NumPy's random numbers equally on all workers, including those of `default_rng()`.

    NumPy asks `secrets.randbits` for the entropy of a generator without a seed
    (numpy/random/bit_generator.pyx, SeedSequence).

    Args:
        seed: the seed.
    """
    import random

    import numpy as np
    from numpy.random import bit_generator

    np.random.seed(seed % 2**32)
    if hasattr(bit_generator, "randbits"):
        bit_generator.randbits = random.Random(seed).getrandbits  # noqa: S311


def randomness_replacements() -> Iterator[Replacement]:
    """Yield the replacements that give each worker's shard its own random numbers."""
    from keras.src.random.seed_generator import SeedGenerator

    yield Replacement(SeedGenerator, "next", _wrap_next_seed(vars(SeedGenerator)["next"]))


def _wrap_next_seed(draw: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(draw)
    def draw_apart(self: Any, *args: Any, **kwargs: Any) -> Any:
        import tensorflow as tf

        seed = draw(self, *args, **kwargs)
        shard = current_shard()
        if shard is None or shard.index == 0:
            return seed
        return seed + tf.constant([shard.index * _STRIDE, 0], seed.dtype)

    return draw_apart
