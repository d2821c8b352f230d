"""An existing model can be converted to another precision and back."""

from __future__ import annotations

import numpy as np
import pytest

from nano_init.errors import PatchError, PrecisionError, UsageError
from nano_init.keras_patch import convert, patch_tensorflow

pytestmark = [
    pytest.mark.tensorflow,
    # Keras 3 with NumPy 2 warns when it reads a variable as an array.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")


def make_model():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 4))
    x = keras.layers.MultiHeadAttention(2, 2, name="attention")(inputs, inputs)
    x = keras.layers.Bidirectional(keras.layers.GRU(3), name="rnn")(x)
    x = keras.layers.Dense(5, name="hidden")(x)
    x = keras.layers.Dense(3, name="head")(x)
    return keras.Model(inputs, keras.layers.Softmax(name="probabilities")(x))


def policies(model):
    return {layer.name: layer.dtype_policy.name for layer in model._flatten_layers(False)}


def data():
    x = np.random.default_rng(0).normal(size=(8, 6, 4)).astype("float32")
    return x, np.arange(8) % 3


def test_all_layers_but_the_head_are_converted_and_restored():
    model = make_model()
    before = policies(model)
    changed = convert(model, "mixed_bfloat16")
    now = policies(model)
    assert {name for name, policy in now.items() if policy == "float32"} >= {
        "head",
        "probabilities",
    }
    assert now["hidden"] == now["forward_gru"] == now["query"] == "mixed_bfloat16"
    assert any(path.endswith("hidden") for path in changed)
    assert not any(path.endswith("head") for path in changed)
    convert(model, "float32")
    assert policies(model) == before


def test_predictions_and_training_use_the_new_precision():
    patch_tensorflow("mixed_bfloat16")
    model = make_model()
    convert(model, "float32")
    model.compile("adam", "sparse_categorical_crossentropy")
    x, y = data()
    exact = model.predict(x, verbose=0)
    convert(model, "mixed_bfloat16")
    rounded = model.predict(x, verbose=0)
    assert not np.array_equal(exact, rounded)
    np.testing.assert_allclose(rounded, exact, atol=0.02)
    model.fit(x, y, epochs=1, verbose=0)
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ((), set()),
        (["hid*"], {"hidden"}),
        ([keras.layers.GRU], {"forward_gru", "backward_gru", "gru_cell"}),
        (["attention", "head"], {"attention", "query", "key", "value", "head"}),
    ],
)
def test_the_named_layers_and_their_sublayers_stay_float32(keep, kept):
    model = make_model()
    convert(model, "mixed_bfloat16", keep_float32=keep)
    float32 = {name for name, policy in policies(model).items() if policy == "float32"}
    assert float32 >= kept
    assert ("hidden" in float32) == ("hidden" in kept)
    assert ("probabilities" in float32) == ("probabilities" in kept)


def test_a_loaded_model_is_converted(tmp_path):
    path = str(tmp_path / "model.keras")
    make_model().save(path)
    model = keras.models.load_model(path)
    convert(model, "mixed_bfloat16")
    assert model(tf.ones((1, 6, 4))).dtype == tf.float32


def test_a_dtype_set_on_a_layer_is_kept():
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(2, dtype="float64"), keras.layers.Dense(1)]
    )
    convert(model, "mixed_bfloat16", keep_float32=())
    assert list(policies(model).values())[-2:] == ["float64", "mixed_bfloat16"]


def test_impossible_conversions_fail_with_one_sentence():
    model = make_model()
    with pytest.raises(PrecisionError, match="bfloat16' is not for training"):
        convert(model, "bfloat16")
    with pytest.raises(UsageError, match="takes a Keras model, not int"):
        convert(1, "float32")
    with pytest.raises(UsageError, match="keep_float32 names 'tail', but model 'functional"):
        convert(model, "mixed_bfloat16", keep_float32=["tail"])
    with pytest.raises(PatchError, match=r"inside a tf\.function"):
        tf.function(lambda: convert(model, "mixed_bfloat16"), autograph=False)()
    empty = keras.Sequential([keras.Input((2,)), keras.layers.Flatten()])
    with pytest.raises(PatchError, match="has no trainable floating variable"):
        convert(empty, "mixed_bfloat16")
    assert set(policies(model).values()) == {"float32"}
