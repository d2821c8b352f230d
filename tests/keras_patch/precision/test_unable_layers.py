"""A layer that cannot compute in bfloat16 on this version stays in float32 and is reported."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from nano_init import patch_tensorflow, unpatch_tensorflow
from nano_init.keras_patch.precision.unable_layers import RULES, rules_for

pytestmark = [pytest.mark.tensorflow, pytest.mark.needs_part("mixed_bfloat16")]

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")
L = keras.layers

VERSION = tuple(int(part) for part in keras.__version__.split(".")[:2])
IMAGE, SEQUENCE, SOUND = (2, 8, 8, 3), (2, 5, 4), (2, 128, 1)
REPORTED = {
    "bicubic": (lambda **k: L.UpSampling2D(interpolation="bicubic", **k), IMAGE),
    "lanczos": (lambda **k: L.UpSampling2D(interpolation="lanczos3", **k), IMAGE),
}
if hasattr(L, "STFTSpectrogram"):
    REPORTED["stft"] = (lambda **k: L.STFTSpectrogram(frame_length=32, frame_step=16, **k), SOUND)
if VERSION < (3, 8):
    REPORTED["stateful"] = (lambda **k: L.LSTM(3, stateful=True, **k), SEQUENCE)
QUIET = [x for x in ("Rotation", "Zoom", "Translation", "Shear") if hasattr(L, f"Random{x}")]


def gradient_by_input(layer, x):
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(tf.cast(layer(x, training=True), tf.float32) ** 2)
    return tape.gradient(loss, x)


def data(shape):
    return np.random.default_rng(4).normal(size=shape).astype("float32")


@pytest.mark.parametrize("name", sorted(REPORTED))
class TestReported:
    def test_the_layer_computes_in_float32_with_one_warning(self, name):
        make, shape = REPORTED[name]
        patch_tensorflow("mixed_bfloat16")
        with pytest.warns(UserWarning, match=r"'mine' stays in float32: ") as caught:
            layer = make(name="mine")
        assert len(caught) == 1
        assert {x.compute_dtype for x in layer._flatten_layers()} == {"float32"}
        inner = keras.Sequential([L.Dense(shape[-1]), layer])
        assert gradient_by_input(inner, data(shape)) is not None

    def test_under_a_bare_policy_the_layer_fails_or_has_no_gradient(self, name):
        make, shape = REPORTED[name]
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            assert gradient_by_input(make(), data(shape)) is None
        except (TypeError, ValueError, tf.errors.InvalidArgumentError):
            return

    def test_a_dtype_set_on_the_layer_is_kept(self, name):
        patch_tensorflow("mixed_bfloat16")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert REPORTED[name][0](dtype="mixed_bfloat16").compute_dtype == "bfloat16"
            assert REPORTED[name][0](dtype="float32").compute_dtype == "float32"


@pytest.mark.parametrize("name", QUIET)
def test_image_layers_are_float32_without_a_warning(name):
    patch_tensorflow("mixed_bfloat16")
    factors = (0.2, 0.2) if name in ("Translation", "Shear") else (0.2,)
    layer = getattr(L, f"Random{name}")(*factors)
    assert layer.compute_dtype == "float32"
    assert gradient_by_input(layer, data(IMAGE)) is not None


@pytest.mark.skipif(VERSION < (3, 8), reason="this Keras cannot")
def test_capable_layers_compute_in_bfloat16():
    patch_tensorflow("mixed_bfloat16")
    able = [
        L.UpSampling2D(),
        L.UpSampling2D(interpolation="bilinear"),
        L.Resizing(4, 4),
        L.LSTM(3, stateful=True),
    ]
    assert {layer.compute_dtype for layer in able} == {"bfloat16"}


def test_cropping_has_a_gradient_under_xla():
    patch_tensorflow("mixed_bfloat16")
    layer = L.Resizing(5, 4, crop_to_aspect_ratio=True)
    layer(data(IMAGE))
    compiled = tf.function(gradient_by_input, jit_compile=True)
    assert compiled(layer, data(IMAGE)).shape == IMAGE


def test_unpatching_leaves_no_rule_behind():
    patch_tensorflow("mixed_bfloat16")
    unpatch_tensorflow()
    keras.config.set_dtype_policy("mixed_bfloat16")
    assert L.UpSampling2D(interpolation="bicubic").compute_dtype == "bfloat16"


def test_a_saved_model_needs_no_patch(tmp_path):
    patch_tensorflow("mixed_bfloat16")
    with pytest.warns(UserWarning, match="stays in float32"):
        layer = L.UpSampling2D(interpolation="bicubic")
    model = keras.Sequential([keras.Input(IMAGE[1:]), layer])
    path = str(tmp_path / "model.keras")
    model.save(path)
    unpatch_tensorflow()
    assert keras.models.load_model(path).layers[0].compute_dtype == "float32"


@pytest.mark.parametrize(
    ("version", "classes"),
    [("3.6.0", {"RNN"}), ("3.7.0", {"RNN"}), ("3.8.0", set()), ("3.15.1", set()), ("4.0", set())],
)
def test_rules_end_with_the_version_that_fixes_the_layer(version, classes):
    assert set(rules_for(version)) & {"RNN"} == classes
    assert len(rules_for("3.6.0")["Resizing"]) == 3
    assert {rule.class_name for rule in RULES if rule.before > (4, 0)} <= set(rules_for(version))
