"""Every family of Keras layers trains under the patch with losses close to float32."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from nano_init import patch_tensorflow, unpatch_tensorflow

pytestmark = [
    pytest.mark.tensorflow,
    # Keras 3 with NumPy 2 warns when it reads a variable as an array.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # Keras 3.6 and 3.7 cannot run three of these in bfloat16.
    pytest.mark.filterwarnings("ignore:.* stays in float32:UserWarning"),
]

keras = pytest.importorskip("keras")
L = keras.layers

SEQUENCE, IMAGE, VOLUME, IDS = (6, 4), (8, 8, 3), (4, 4, 4, 2), "ids"


class Gated(L.Layer):
    """A custom layer with its own weights and a sublayer."""

    def build(self, shape):
        self.gate = L.Dense(shape[-1], activation="sigmoid")
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return self.gate(x) * x * self.scale


FAMILIES = {
    "dense": ((5,), lambda: [L.Dense(4, activation="gelu"), L.PReLU()]),
    "einsum_dense": (SEQUENCE, lambda: [L.EinsumDense("abc,cd->abd", (6, 3), bias_axes="d")]),
    "conv1d": (SEQUENCE, lambda: [L.Conv1D(3, 2, padding="causal"), L.MaxPooling1D()]),
    "conv2d": (IMAGE, lambda: [L.Conv2D(3, 3), L.AveragePooling2D(2)]),
    "conv3d": (VOLUME, lambda: [L.Conv3D(2, 2), L.GlobalMaxPooling3D()]),
    "conv1d_transpose": (SEQUENCE, lambda: [L.Conv1DTranspose(3, 2, strides=2)]),
    "conv2d_transpose": (IMAGE, lambda: [L.Conv2DTranspose(3, 2, strides=2)]),
    "depthwise": (IMAGE, lambda: [L.DepthwiseConv2D(3, depth_multiplier=2)]),
    "separable": (IMAGE, lambda: [L.SeparableConv2D(3, 3)]),
    "batch_norm": (IMAGE, lambda: [L.Conv2D(3, 3), L.BatchNormalization()]),
    "layer_norm": (SEQUENCE, lambda: [L.LayerNormalization(), L.UnitNormalization()]),
    "group_norm": (IMAGE, lambda: [L.Conv2D(4, 3), L.GroupNormalization(2)]),
    "spectral_norm": ((5,), lambda: [L.SpectralNormalization(L.Dense(4))]),
    "embedding": (IDS, lambda: [L.Embedding(3000, 4, mask_zero=True), L.LSTM(3)]),
    "gru": (SEQUENCE, lambda: [L.GRU(3, return_sequences=True), L.SimpleRNN(2)]),
    "bidirectional": (SEQUENCE, lambda: [L.Bidirectional(L.LSTM(3))]),
    "time_distributed": (SEQUENCE, lambda: [L.TimeDistributed(L.Dense(3)), L.Permute((2, 1))]),
    "conv_lstm": ((3, 6, 6, 2), lambda: [L.ConvLSTM2D(2, 3)]),
    "preprocessing": (IMAGE, lambda: [L.Rescaling(1 / 255), L.Resizing(4, 4), L.RandomFlip()]),
    "upsampling": (IMAGE, lambda: [L.UpSampling2D(interpolation="bilinear"), L.ZeroPadding2D()]),
    "dropout": ((5,), lambda: [L.Dense(6), L.Dropout(0.0), L.GaussianNoise(0.0)]),
    "custom": ((5,), lambda: [Gated(), L.Lambda(lambda x: x * 2)]),
}


def make(name):
    keras.utils.set_random_seed(5)
    shape, layers = FAMILIES[name]
    inputs = keras.Input((6,), dtype="int32") if shape is IDS else keras.Input(shape)
    x = inputs
    for layer in layers():
        x = layer(x)
    return keras.Model(inputs, L.Dense(1)(L.Flatten()(x)))


def data(name):
    shape, rng = FAMILIES[name][0], np.random.default_rng(2)
    size = 4
    x = rng.integers(0, 3000, (size, 6)) if shape is IDS else rng.normal(size=(size, *shape))
    return x.astype("int32" if shape is IDS else "float32"), rng.normal(size=(size, 1))


def trained(model, x, y):
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0).history["loss"]


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_layer_trains_close_to_float32_and_is_saved(name, tmp_path):
    x, y = data(name)
    exact = trained(make(name), x, y)
    patch_tensorflow("mixed_bfloat16")
    model = make(name)
    assert trained(model, x, y) == pytest.approx(exact, rel=0.05, abs=0.02)
    assert {w.dtype for w in model.trainable_weights} <= {"float32"}
    answer = model.predict(x, verbose=0)
    assert answer.dtype == np.dtype("float32")
    if name == "custom":
        return
    path = str(tmp_path / "model.keras")
    model.save(path)
    unpatch_tensorflow()
    loaded = keras.models.load_model(path)
    found = np.asarray(loaded.predict(x, verbose=0), "float32")
    np.testing.assert_allclose(found, answer, atol=0.03, rtol=0.03)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("kind", ["MultiHeadAttention", "GroupQueryAttention"])
def test_attention_has_finite_losses(kind, dropout):
    heads = {"num_heads": 2, "key_dim": 3}
    if kind == "GroupQueryAttention":
        heads = {"num_query_heads": 4, "num_key_value_heads": 2, "head_dim": 3}
    patch_tensorflow("mixed_bfloat16")
    inputs = keras.Input((6, 4))
    x = getattr(L, kind)(dropout=dropout, **heads)(inputs, inputs, use_causal_mask=True)
    model = keras.Model(inputs, L.Dense(1)(L.GlobalAveragePooling1D()(x)))
    losses = trained(model, np.ones((4, 6, 4), "float32"), np.ones((4, 1)))
    assert np.all(np.isfinite(losses))


def test_a_stateful_recurrent_layer_keeps_its_state():
    patch_tensorflow("mixed_bfloat16")
    layer = L.LSTM(3, stateful=True)
    model = keras.Sequential([keras.Input(batch_shape=(2, 4, 3)), layer])
    x = np.ones((2, 4, 3), "float32")
    first, second = (model.predict(x, batch_size=2, verbose=0) for _ in range(2))
    assert not np.array_equal(first, second)
    layer.reset_states() if hasattr(layer, "reset_states") else layer.reset_state()
    np.testing.assert_array_equal(model.predict(x, batch_size=2, verbose=0), first)


@pytest.mark.parametrize("options", [{"run_eagerly": True}, {"jit_compile": True}])
def test_fit_trains_eagerly_and_under_xla(options):
    patch_tensorflow("mixed_bfloat16")
    keras.utils.set_random_seed(1)
    model = keras.Sequential([L.Embedding(3000, 4), L.Flatten(), L.Dense(3, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], **options)
    x = np.array([[2909, 2909], [5, 2911]])
    history = model.fit(x, np.array([0, 2]), epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.slow
def test_all_families_train_without_onednn():
    """TensorFlow reads the variable only on import, so this runs in a separate process."""
    if os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0":
        pytest.skip("is running without oneDNN")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    environ = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    assert " passed" in result.stdout
