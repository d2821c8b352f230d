"""Slices of the same row are summed once, however the script computes the ids."""

from __future__ import annotations

import numpy as np
import pytest

from nano_init import patch_tensorflow
from nano_init.keras_patch.sparse.row_sums import is_distinct, sum_repeated_ids

pytestmark = [pytest.mark.tensorflow, pytest.mark.needs_part("repeated_ids")]

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

IDS = [20, 50, 20, 20, 0]


@pytest.mark.parametrize("lazy_adam", [False, True])
def test_repeated_positions_from_tf_unique_are_summed(lazy_adam):
    """Both outputs come from the op `Unique`, but only the first is distinct."""
    patch_tensorflow(lazy_adam=lazy_adam)
    variable = keras.Variable(np.zeros((3, 1), "float32"))
    adam = keras.optimizers.Adam(clipnorm=100.0)
    adam.build([variable])

    @tf.function
    def step():
        _, places = tf.unique(tf.constant(IDS))
        adam.apply([tf.IndexedSlices(tf.ones((5, 1)), places, [3, 1])], [variable])

    step()
    moments = np.array(adam._velocities[0])[:, 0]
    np.testing.assert_allclose(moments, [0.009, 0.001, 0.001], rtol=1e-4)


@pytest.mark.parametrize("run", [lambda f: f, tf.function])
def test_summed_rows_are_recognized_after_clipping_and_casts(run):
    def step(values, ids):
        summed = sum_repeated_ids(tf.IndexedSlices(values, ids, [60, 1]))
        clipped = tf.clip_by_norm(summed, 1.0)
        cast = tf.IndexedSlices(tf.cast(clipped.values, tf.bfloat16), clipped.indices)
        found.append((is_distinct(clipped), is_distinct(cast), sum_repeated_ids(cast) is cast))

    found = []
    run(step)(tf.ones((5, 1)), tf.constant(IDS))
    assert found == [(True, True, True)]
