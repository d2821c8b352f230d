"""The shards of the workers contain each row of a batch exactly once."""

from __future__ import annotations

import pytest

tf = pytest.importorskip("tensorflow")
np = pytest.importorskip("numpy")

from nano_init.distributed.batch_shard import (  # noqa: E402
    BatchShard,
    UnsharableDataError,
    computing_shard,
    shard_of,
)

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
@pytest.mark.parametrize("rows", [1, 2, 4, 7, 16])
@pytest.mark.parametrize("is_dynamic", [False, True])
def test_shards_contain_all_rows_in_order_and_their_weights_sum_to_one(rows, workers, is_dynamic):
    batch = {"x": tf.range(rows), "y": tf.reshape(tf.range(2 * rows), [rows, 2]), "n": None}

    def take(index):
        shard = shard_of(batch, index, workers)
        own = shard.take(batch)
        return own["x"], own["y"], tf.cast(shard.owned, tf.int32), shard.weight

    if is_dynamic:
        inner = take

        def take(index):
            specs = {"x": tf.TensorSpec([None], tf.int32), "y": tf.TensorSpec([None, 2], tf.int32)}

            @tf.function(input_signature=[specs])
            def run(given):
                shard = shard_of({**given, "n": None}, index, workers)
                own = shard.take(given)
                return own["x"], own["y"], tf.cast(shard.owned, tf.int32), shard.weight

            return run({"x": batch["x"], "y": batch["y"]})

        assert inner is not take

    seen, weights = [], []
    for index in range(workers):
        x, y, owned, weight = take(index)
        assert len(x) >= 1
        assert y[:, 0].numpy().tolist() == (2 * x).numpy().tolist()
        seen += x.numpy().tolist()[: int(owned)]
        weights.append(float(weight))
    assert seen == list(range(rows))
    assert sum(weights) == pytest.approx(1)


def test_sparse_and_ragged_rows_are_sharded():
    sparse = tf.sparse.from_dense([[1, 0], [0, 2], [3, 4]])
    ragged = tf.ragged.constant([[1], [2, 3], []])
    batch = (tf.range(3), sparse, ragged, tf.constant(7))

    shard = shard_of(batch, 0, 2)
    x, rows, lists, scalar = shard.take(batch)
    assert x.numpy().tolist() == [0, 1]
    assert tf.sparse.to_dense(rows).numpy().tolist() == [[1, 0], [0, 2]]
    assert lists.to_list() == [[1], [2, 3]]
    assert int(scalar) == 7


def test_data_without_rows_are_rejected():
    with pytest.raises(UnsharableDataError, match="batch the data set"):
        shard_of((tf.constant(1.0), None), 0, 2)


def test_shards_get_different_seeds_and_the_first_gets_the_seed_of_keras():
    import keras

    from nano_init.distributed.randomness import randomness_replacements
    from nano_init.keras_patch.ledger import Ledger

    def draw(index):
        generator = keras.random.SeedGenerator(3)
        with computing_shard(BatchShard(index, 3, 6, 0, 2, 2)):
            return np.asarray(generator.next()).tolist()

    plain = np.asarray(keras.random.SeedGenerator(3).next()).tolist()
    ledger = Ledger()
    ledger.apply(randomness_replacements())
    try:
        drawn = [draw(index) for index in range(3)]
    finally:
        ledger.restore()
    assert drawn[0] == plain
    assert len({tuple(seed) for seed in drawn}) == 3
