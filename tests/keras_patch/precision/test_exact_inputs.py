"""Ids and large numbers reach their layer unrounded; bfloat16 is exact only up to 256."""

from __future__ import annotations

import numpy as np
import pytest

from nano_init import unpatch_tensorflow

pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.usefixtures("mixed"),
    # Keras 3 with NumPy 2 warns when it reads a variable as an array.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

ID = 2909


def trained_rows(model, ids, batches=None):
    table = next(w for layer in model._flatten_layers() for w in layer.weights if "embed" in w.path)
    before = table.numpy()
    model.compile(keras.optimizers.SGD(1.0), "mse")
    if batches is None:
        model.fit(ids, np.ones(len(ids), "float32"), epochs=1, verbose=0)
    else:
        model.fit(batches, epochs=1, verbose=0, shuffle=False)
    return np.flatnonzero(np.abs(table.numpy() - before).sum(-1)).tolist()


def layers():
    return [
        keras.layers.Embedding(5000, 4),
        keras.layers.GlobalAveragePooling1D(),
        keras.layers.Dense(1),
    ]


class Wrapped(keras.layers.Layer):
    """A custom layer around an Embedding, as in the text transformer of keras.io."""

    def __init__(self, change=None, **kwargs):
        super().__init__(**kwargs)
        self.embedding = keras.layers.Embedding(5000, 4)
        self.change = change or (lambda x: x)

    def build(self, shape):
        self.embedding.build(shape)

    def call(self, x):
        return self.embedding(self.change(x))

    def compute_output_spec(self, x):
        return keras.KerasTensor((*x.shape, 4), self.compute_dtype)


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64"])
def test_a_sequential_model_without_input_trains_the_right_row(dtype):
    model = keras.Sequential(layers())
    model.build((None, 2))
    assert trained_rows(model, np.full((2, 2), ID, dtype)) == [ID]


def test_a_sequential_model_built_by_its_first_batch_trains_the_right_row():
    model = keras.Sequential(layers())
    batches = tf.data.Dataset.from_tensors((tf.fill((2, 2), ID), tf.ones((2, 1))))
    model(tf.zeros((1, 2), tf.int32))
    assert trained_rows(model, None, batches) == [ID]


def test_a_sequential_model_of_dense_layers_has_a_float32_input():
    model = keras.Sequential([keras.layers.Dense(2)])
    model(tf.ones((1, 3)))
    assert model.inputs[0].dtype == "float32"


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32"])
def test_a_float_input_to_a_layer_around_an_embedding_is_exact(dtype):
    inputs = keras.Input((2,))
    x = keras.layers.GlobalAveragePooling1D()(Wrapped()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    assert trained_rows(model, np.full((2, 2), ID, dtype)) == [ID]


@pytest.mark.parametrize(
    "change", [lambda x: tf.cast(x, tf.int32), lambda x: keras.ops.cast(x, "int32")]
)
def test_ids_that_a_custom_layer_casts_are_exact(change):
    inputs = keras.Input((2,))
    x = keras.layers.GlobalAveragePooling1D()(Wrapped(change)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    assert trained_rows(model, np.full((2, 2), ID, "int32")) == [ID]


@pytest.mark.parametrize("given", [np.asarray, tf.constant])
def test_ids_are_exact_in_a_layer_outside_a_model(given):
    layer = Wrapped()
    layer.build((1,))
    answer = layer(given(np.array([ID], "float32")))
    expected = tf.cast(layer.embedding.embeddings.value[ID], tf.bfloat16)
    assert answer.numpy().tolist() == [expected.numpy().tolist()]


def test_ids_in_dictionaries_of_subclassed_models_are_exact():
    class Recommender(keras.Model):
        def __init__(self):
            super().__init__()
            self.embedding = keras.layers.Embedding(5000, 4)
            self.head = keras.layers.Dense(1)

        def call(self, inputs):
            return self.head(self.embedding(inputs["id"]) * inputs["weight"][:, None])

    for dtype in ("int64", "float32"):
        model = Recommender()
        data = {"id": np.full((2,), ID, dtype), "weight": np.ones(2, "float32")}
        model(data)
        batches = tf.data.Dataset.from_tensors((data, np.ones((2, 1), "float32")))
        assert trained_rows(model, None, batches) == [ID]


def test_ids_are_exact_in_a_model_with_a_bfloat16_input():
    inputs = keras.Input((2,), dtype="bfloat16")
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(5000, 4)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    assert trained_rows(model, np.full((2, 2), ID, "int32")) == [ID]


@pytest.mark.parametrize("given", [True, False])
def test_normalization_keeps_the_digits_of_large_numbers(given):
    years = np.arange(2000, 2024, dtype="float32")[:, None]
    arguments = {"mean": years.mean(), "variance": years.var()} if given else {}
    layer = keras.layers.Normalization(**arguments)
    if not given:
        layer.adapt(years)
    model = keras.Sequential([keras.Input((1,)), layer])
    expected = (years - years.mean()) / years.std()
    np.testing.assert_allclose(model.predict(years, verbose=0), expected, atol=0.01)
    np.testing.assert_allclose(layer(tf.constant(years)), expected, atol=1e-5)
    assert layer.dtype_policy.name == "mixed_bfloat16"


def test_categories_above_256_are_encoded_exactly():
    inputs = keras.Input((1,))
    encode = keras.layers.CategoryEncoding(num_tokens=3000, output_mode="multi_hot")
    model = keras.Model(inputs, encode(inputs))
    answer = model.predict(np.array([[ID], [257]]), verbose=0)
    assert np.argmax(answer, -1).tolist() == [ID, 257]


def test_large_values_fall_into_the_right_bin():
    layer = keras.layers.Discretization(bin_boundaries=[999.5, 1000.5, 1001.5])
    model = keras.Sequential([keras.Input((1,)), layer])
    answer = model.predict(np.array([[999.0], [1000.0], [1001.0], [1002.0]]), verbose=0)
    assert answer.ravel().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", ["int32", "float32"])
@pytest.mark.parametrize(
    "move",
    [
        lambda x: x[:, 0],
        lambda x: tf.reshape(x, (-1,)),
        lambda x: tf.unstack(x, axis=1)[1],
        lambda x: keras.ops.expand_dims(keras.ops.transpose(x)[0], 0),
        lambda x: tf.squeeze(tf.slice(x, (0, 1), (-1, 1)), 1),
        lambda x: tf.gather(x, [1], axis=1),
        lambda x: tf.cast(tf.tile(x, (1, 2)), tf.int64),
    ],
)
def test_ids_stay_exact_if_a_layer_moves_them_before_the_lookup(dtype, move):
    """This needs a graph: eagerly, a slice of rounded ids stays rounded."""
    layer = Wrapped(move)
    inputs = keras.Input((2,))
    outputs = keras.layers.Lambda(lambda x: tf.reduce_mean(x), output_shape=())(layer(inputs))
    model = keras.Model(inputs, outputs)
    answer = tf.function(lambda x: model(x))(tf.constant([[ID, ID]], dtype))
    expected = tf.reduce_mean(tf.cast(layer.embedding.embeddings.value[ID], tf.bfloat16))
    assert float(answer) == pytest.approx(float(expected), rel=0.02)


@pytest.mark.parametrize("kind", ["ragged", "sparse"])
def test_ragged_and_sparse_ids_are_exact(kind):
    class Bag(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.table = self.add_weight(shape=(5000, 2), name="embeddings")

        def call(self, ids):
            ids = ids.to_tensor() if kind == "ragged" else tf.sparse.to_dense(ids)
            return tf.gather(self.table.value, tf.cast(ids, tf.int32))

    ids = tf.constant([[ID, 1]], tf.float32)
    given = tf.RaggedTensor.from_tensor(ids) if kind == "ragged" else tf.sparse.from_dense(ids)
    layer = Bag()
    answer = tf.function(lambda: layer(given))()
    expected = tf.cast(layer.table.value[ID], tf.bfloat16)
    assert answer[0, 0].numpy().tolist() == expected.numpy().tolist()


def test_a_saved_sequential_model_is_exact_without_the_patch(tmp_path):
    model = keras.Sequential(layers())
    model.build((None, 2))
    path = str(tmp_path / "model.keras")
    model.save(path)
    unpatch_tensorflow()
    loaded = keras.models.load_model(path)
    assert trained_rows(loaded, np.full((2, 2), ID, "int32")) == [ID]
