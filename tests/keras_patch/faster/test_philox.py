"""The generator in tensor ops gives the same numbers as TensorFlow's random ops."""

from __future__ import annotations

import numpy as np
import pytest

from nano_init.keras_patch.faster.philox import random_words, unit_floats

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize("seed", [(0, 0), (1, 2), (-5, 2**31 - 1)])
def test_words_equal_the_stateless_ops(seed):
    import tensorflow as tf

    key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=tf.constant(seed))
    mine = tf.reshape(tf.stack(random_words(key, counter, 250), -1), [-1])
    own = tf.random.stateless_uniform([1000], seed, None, None, tf.uint32)
    np.testing.assert_array_equal(mine.numpy(), own.numpy())


def test_floats_equal_the_stateless_ops():
    import tensorflow as tf

    words = tf.random.stateless_uniform([999], (3, 4), None, None, tf.uint32)
    own = tf.random.stateless_uniform([999], (3, 4))
    np.testing.assert_array_equal(unit_floats(words).numpy(), own.numpy())


def test_the_counter_carries_into_its_upper_half():
    import tensorflow as tf

    key = tf.constant([7], tf.uint64)
    last = tf.constant([2**64 - 1, 5], tf.uint64)
    following = tf.constant([0, 6], tf.uint64)
    second = [word.numpy()[1] for word in random_words(key, last, 2)]
    assert second == [word.numpy()[0] for word in random_words(key, following, 1)]


def test_a_known_answer():
    """The test vector of Random123 (kat_vectors: philox4x32 10, all zero)."""
    import tensorflow as tf

    words = random_words(tf.zeros([1], tf.uint64), tf.zeros([2], tf.uint64), 1)
    assert [hex(int(word.numpy()[0])) for word in words] == [
        "0x6627e8d5",
        "0xe169c58d",
        "0xbc57ac4c",
        "0x9b00dbd8",
    ]
