"""Lazy Adam on many rows is one compiled pass, and equals Keras's formula."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nano_init import patch_tensorflow
from nano_init.keras_patch.faster.padded_rows import is_worth_padding, padded_sizes

pytestmark = pytest.mark.tensorflow

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

ROWS, WIDTH, IDS = 3000, 64, 4200


def test_sizes_are_few_and_at_most_an_eighth_apart():
    sizes = padded_sizes()
    for size, following in itertools.pairwise(sizes):
        assert 0 < following - size <= max(256, size / 8)
    assert sizes[0] == 256
    assert sizes[-1] < 2**31 <= sizes[-1] * 1.125
    assert len(sizes) < 200


def gradients(steps, ids=IDS, dtype="float32", rows=ROWS):
    """Return random slices with repeated ids, one per step."""
    random = np.random.default_rng(3)
    return [
        (
            tf.cast(random.normal(size=(ids, WIDTH)), dtype),
            tf.constant(random.integers(0, rows, ids), "int32"),
        )
        for _ in range(steps)
    ]


def trained(slices, *, signature=None, wrap=tf.function, **options):
    """Return a table and its moments after one step per slice."""
    table = keras.Variable(np.random.default_rng(1).normal(size=(ROWS, WIDTH)), dtype="float32")
    adam = keras.optimizers.Adam(0.1, **options)
    adam.build([table])

    def step(values, ids):
        adam.apply([tf.IndexedSlices(values, ids, tf.constant([ROWS, WIDTH]))], [table])

    step = wrap(step, input_signature=signature) if signature else wrap(step)
    for values, ids in slices:
        step(values, ids)
    return [np.array(v) for v in (table, adam._momentums[0], adam._velocities[0])]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("options", [{}, {"clipnorm": 1.0}, {"use_ema": True}])
def test_ten_steps_equal_the_formula_of_keras(dtype, options, assert_close):
    """Within 1e-6: XLA may fuse a product and a sum, which rounds once instead of twice."""
    slices = gradients(10, dtype=dtype)
    found = []
    for disable in ((), ("adam",)):
        patch_tensorflow(lazy_adam=True, disable=disable)
        found.append(trained(slices, **options))
    assert_close(*found, 1e-6)


def test_eager_and_compiled_steps_equal_the_graph(assert_close, count_islands):
    patch_tensorflow(lazy_adam=True)
    slices = gradients(3)
    expected = trained(slices)
    assert_close(trained(slices, wrap=lambda f: f), expected, 1e-6)
    assert_close(trained(slices, wrap=lambda f: tf.function(f, jit_compile=True)), expected, 1e-6)


def islands_of(count_islands, ids):
    table = keras.Variable(np.zeros((ROWS, WIDTH)), dtype="float32")
    adam = keras.optimizers.Adam()
    adam.build([table])

    def step(values, rows):
        adam.apply([tf.IndexedSlices(values, rows, tf.constant([ROWS, WIDTH]))], [table])

    return count_islands(
        step, tf.TensorSpec((ids, WIDTH), tf.float32), tf.TensorSpec((ids,), tf.int32)
    )


@pytest.mark.parametrize(("ids", "islands"), [(IDS, 1), (4000, 0), (None, 0)])
def test_few_ids_and_unknown_numbers_of_ids_use_the_plain_ops(count_islands, ids, islands):
    patch_tensorflow(lazy_adam=True)
    assert islands_of(count_islands, ids) == islands


def test_disabling_adam_disables_the_compiled_pass(count_islands):
    patch_tensorflow(lazy_adam=True, disable="adam")
    assert islands_of(count_islands, IDS) == 0


@pytest.mark.parametrize("steps_per_execution", [None, 3])
def test_fit_with_varying_numbers_of_rows_equals_the_plain_ops(steps_per_execution, assert_close):
    ids = np.random.default_rng(4).integers(0, ROWS, (2048, 8)) // np.arange(1, 9)
    data = tf.data.Dataset.from_tensor_slices((ids, ids.sum(1) / ROWS))
    weights = []
    for disable in ((), ("adam",)):
        patch_tensorflow(lazy_adam=True, disable=disable, steps_per_execution=steps_per_execution)
        keras.utils.set_random_seed(2)
        layers = [keras.layers.Embedding(ROWS, WIDTH), keras.layers.Flatten()]
        model = keras.Sequential([keras.Input((8,), dtype="int32"), *layers, keras.layers.Dense(1)])
        model.compile("adam", "mse")
        batches = data.batch(512, drop_remainder=True)
        model.fit(batches, epochs=2, shuffle=False, verbose=0)
        weights.append(model.get_weights())
    assert_close(*weights, 2e-6)


@pytest.mark.parametrize(
    ("ids", "width", "expected"),
    [(4096, 64, True), (4095, 64, False), (16384, 16, False), (512, 512, True), (None, 64, False)],
)
def test_only_many_wide_rows_are_worth_padding(ids, width, expected):
    variable = keras.Variable(np.zeros((10, width)), dtype="float32")

    @tf.function(
        input_signature=[tf.TensorSpec((ids, width)), tf.TensorSpec((ids,), tf.int32)],
        autograph=False,
    )
    def traced(values, rows):
        answers.append(is_worth_padding(tf.IndexedSlices(values, rows), variable))

    answers = []
    traced.get_concrete_function()
    assert answers == [expected]


def test_two_tables_of_one_model_and_ids_of_64_bits(assert_close):
    ids = np.random.default_rng(5).integers(0, ROWS, (1024, 4))
    weights = []
    for disable in ((), ("adam",)):
        patch_tensorflow("mixed_bfloat16", lazy_adam=True, disable=disable)
        keras.utils.set_random_seed(2)
        inputs = [keras.Input((4,), dtype="int64"), keras.Input((4,), dtype="int64")]
        tables = [keras.layers.Embedding(ROWS, WIDTH), keras.layers.Embedding(ROWS, WIDTH)]
        joined = keras.layers.concatenate([t(i) for t, i in zip(tables, inputs, strict=True)])
        model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Flatten()(joined)))
        model.compile(keras.optimizers.Adam(0.01), "mse", steps_per_execution=2)
        data = tf.data.Dataset.from_tensors(((ids, ids[::-1]), ids.sum(1) / ROWS)).repeat(6)
        model.fit(data, shuffle=False, verbose=0)
        weights.append(model.get_weights())
    assert_close(*weights, 1e-3)


def test_an_empty_list_of_ids_changes_nothing():
    patch_tensorflow(lazy_adam=True)
    signature = [tf.TensorSpec((None, WIDTH)), tf.TensorSpec((None,), tf.int32)]
    nothing = [(tf.zeros((0, WIDTH)), tf.zeros((0,), tf.int32))]
    expected = np.random.default_rng(1).normal(size=(ROWS, WIDTH)).astype("float32")
    np.testing.assert_array_equal(trained(nothing, signature=signature)[0], expected)
    np.testing.assert_array_equal(trained(nothing)[0], expected)
