"""Optimizers whose semantics differ from Keras's, to be chosen by name."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

__all__ = ["LazyAdam", "SparseAdam"]


@keras.saving.register_keras_serializable(package="nano_init")
class LazyAdam(keras.optimizers.Adam):  # type: ignore[misc]
    """Adam that updates only the rows that a sparse gradient names.

    Adam moves every row of an embedding in every step, because the moments of rows that a
    batch does not name decay all the same; a table of 200,000 rows is then read and written
    whole for a batch of a thousand ids. LazyAdam leaves the rows that are not named as they
    are, moments included. That is faster, and it is another algorithm: results differ from
    Adam's (https://www.tensorflow.org/addons/api_docs/python/tfa/optimizers/LazyAdam).

    A dense gradient is treated as by Adam, and so is a sparse one with `amsgrad`. Arguments
    are those of `keras.optimizers.Adam`.
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
        rows, values = _sum_by_row(gradient)
        dtype = variable.dtype
        rate = tf.cast(learning_rate, dtype)
        step = tf.cast(self.iterations + 1, dtype)
        correction = tf.sqrt(1 - tf.cast(self.beta_2, dtype) ** step) / (
            1 - tf.cast(self.beta_1, dtype) ** step
        )
        index = self._get_variable_index(variable)
        first, second = self._momentums[index], self._velocities[index]
        values = tf.cast(values, dtype)
        m = _rows_of(first, rows)
        m += (values - m) * (1 - self.beta_1)
        v = _rows_of(second, rows)
        v += (tf.square(values) - v) * (1 - self.beta_2)
        change = rate * correction * m / (tf.sqrt(v) + self.epsilon)
        self.assign(first, tf.IndexedSlices(m, rows))
        self.assign(second, tf.IndexedSlices(v, rows))
        self.assign_sub(variable, tf.IndexedSlices(change, rows))


# BigDL-Nano's name for it.
SparseAdam = LazyAdam


def _sum_by_row(gradient: tf.IndexedSlices) -> tuple[tf.Tensor, tf.Tensor]:
    rows, places = tf.unique(gradient.indices)
    return rows, tf.math.unsorted_segment_sum(gradient.values, places, tf.size(rows))


def _rows_of(variable: Any, rows: tf.Tensor) -> tf.Tensor:
    return tf.gather(variable.value, rows)
