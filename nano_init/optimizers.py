"""Optimizers whose semantics differ from Keras's, to be chosen by name."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from nano_init.keras_patch.sparse.lazy_adam import update_named_rows

__all__ = ["LazyAdam", "SparseAdam"]


@keras.saving.register_keras_serializable(package="nano_init")
class LazyAdam(keras.optimizers.Adam):  # type: ignore[misc]
    """Adam that updates only the rows that a sparse gradient names.

    Adam moves every row of an embedding in every step, because the moments of all rows decay, so a
    batch of a thousand ids reads and writes a whole table of 200,000 rows. LazyAdam leaves rows
    that are not named as they are, including their moments. This is faster, but a different
    algorithm: results differ from Adam's
    (https://www.tensorflow.org/addons/api_docs/python/tfa/optimizers/LazyAdam).

    Dense gradients, and sparse ones with `amsgrad`, are treated as in Adam. The arguments are
    those of `keras.optimizers.Adam`.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable, and of a sparse gradient only the rows that it names.

        Args:
            gradient: a tensor of the variable's shape, or `tf.IndexedSlices` of its rows.
            variable: the variable, of shape [rows, ...].
            learning_rate: a scalar.
        """
        if self.amsgrad or not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable, learning_rate)
            return
        update_named_rows(self, gradient, variable, learning_rate)

    update_step.is_lazy = True  # type: ignore[attr-defined]


# BigDL-Nano's name for it.
SparseAdam = LazyAdam
