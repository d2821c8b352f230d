"""Layers that the user names stay in float32, with their sublayers."""

from __future__ import annotations

import numpy as np
import pytest

from nano_init import patch_tensorflow, unpatch_tensorflow
from nano_init.errors import UsageError
from nano_init.keras_patch import is_patched
from nano_init.protocol.patch_options import parse_keep_float32

keras = pytest.importorskip("keras")
L = keras.layers

tensorflow = pytest.mark.tensorflow
mixed_bfloat16 = pytest.mark.needs_part("mixed_bfloat16")


def policies(layer):
    return {x.dtype_policy.name for x in layer._flatten_layers()}


class Outer(L.Layer):
    """Creates layers without a dtype in its constructor and in `build`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = L.Dense(3)

    def build(self, shape):
        self.second = L.Dense(shape[-1])

    def call(self, x):
        return self.second(self.first(x))


class TestPatterns:
    @pytest.mark.parametrize("value", ["", " ", ("head", ""), [""]])
    def test_an_empty_pattern_is_rejected_in_one_sentence(self, value):
        with pytest.raises(UsageError, match=r"^the pattern ' ?' of layers to keep .* is empty"):
            parse_keep_float32(value)

    @pytest.mark.parametrize("value", [None, 3, (3,), {"head": 1}])
    def test_a_value_that_is_not_a_pattern_is_rejected(self, value):
        with pytest.raises(UsageError, match=r"keep_float32 (is|holds) .*; give "):
            parse_keep_float32(value)

    def test_one_string_is_one_pattern(self):
        assert parse_keep_float32("head*") == ("head*",)
        assert parse_keep_float32(["a", "b"]) == ("a", "b")

    @tensorflow
    def test_an_invalid_pattern_leaves_keras_unchanged(self):
        with pytest.raises(UsageError):
            patch_tensorflow("mixed_bfloat16", keep_float32=("",))
        assert not is_patched()


@tensorflow
@mixed_bfloat16
class TestWhichLayers:
    @pytest.mark.parametrize(
        ("pattern", "kept"),
        [
            ("head", {"head"}),
            ("h*", {"head", "hidden"}),
            ("Dense", {"head", "hidden"}),
            ("*Norm*", {"norm"}),
            ("dense", set()),
            ("nothing", set()),
        ],
    )
    def test_layers_are_kept_by_name_or_class(self, pattern, kept):
        patch_tensorflow("mixed_bfloat16", keep_float32=(pattern,))
        layers = [
            L.Dense(1, name="head"),
            L.Dense(1, name="hidden"),
            L.LayerNormalization(name="norm"),
        ]
        assert {x.name for x in layers if x.dtype_policy.name == "float32"} == kept

    def test_layers_are_kept_by_a_default_name(self):
        patch_tensorflow("mixed_bfloat16", keep_float32="dense*")
        assert L.Dense(1).compute_dtype == "float32"

    def test_a_dtype_set_on_the_layer_wins(self):
        patch_tensorflow("mixed_bfloat16", keep_float32="head")
        layer = L.Dense(1, name="head", dtype="mixed_bfloat16")
        assert layer.compute_dtype == "bfloat16"

    def test_a_policy_set_by_the_script_wins_unless_it_is_mixed_bfloat16(self):
        patch_tensorflow("mixed_bfloat16", keep_float32="head")
        keras.config.set_dtype_policy("float64")
        assert L.Dense(1, name="head").compute_dtype == "float64"
        keras.config.set_dtype_policy("mixed_bfloat16")
        assert L.Dense(1, name="head").compute_dtype == "float32"

    def test_patching_again_replaces_the_patterns(self):
        patch_tensorflow("mixed_bfloat16", keep_float32="a")
        patch_tensorflow("mixed_bfloat16", keep_float32="b")
        assert L.Dense(1, name="a").compute_dtype == "bfloat16"
        assert L.Dense(1, name="b").compute_dtype == "float32"
        unpatch_tensorflow()
        keras.config.set_dtype_policy("mixed_bfloat16")
        assert L.Dense(1, name="b").compute_dtype == "bfloat16"


@tensorflow
@mixed_bfloat16
class TestSublayers:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: L.LSTM(3, name="kept"),
            lambda: L.Bidirectional(L.GRU(2), name="kept"),
            lambda: L.TimeDistributed(L.Dense(3), name="kept"),
            lambda: Outer(name="kept"),
            lambda: keras.Sequential([L.Dense(3), L.Dense(2)], name="kept"),
        ],
    )
    def test_all_sublayers_are_float32_after_a_call(self, make):
        patch_tensorflow("mixed_bfloat16", keep_float32="kept")
        layer = make()
        keras.Model(inputs := keras.Input((5, 4)), layer(inputs))
        assert policies(layer) == {"float32"}

    def test_a_nested_functional_model_computes_in_float32(self):
        patch_tensorflow("mixed_bfloat16", keep_float32="kept")
        inner = keras.Sequential([keras.Input((4,)), L.Dense(3, name="d")], name="kept")
        model = keras.Sequential([keras.Input((4,)), inner, L.Dense(1)])
        assert policies(inner) == {"float32"}
        assert model.predict(np.ones((2, 4)), verbose=0).shape == (2, 1)

    def test_sublayers_of_attention_are_float32(self):
        patch_tensorflow("mixed_bfloat16", keep_float32="MultiHeadAttention")
        layer = L.MultiHeadAttention(2, 3)
        x = np.ones((2, 4, 6), "float32")
        assert layer(x, x).dtype == "float32"
        assert policies(layer) == {"float32"}

    def test_other_layers_stay_bfloat16(self):
        patch_tensorflow("mixed_bfloat16", keep_float32="kept")
        model = keras.Sequential([L.Dense(3), L.LSTM(3, name="kept"), L.Dense(1)])
        model.build((2, 5, 4))
        assert [x.compute_dtype for x in model.layers] == ["bfloat16", "float32", "bfloat16"]


@tensorflow
@mixed_bfloat16
def test_a_model_with_kept_layers_trains_and_its_file_needs_no_patch(tmp_path):
    keras.utils.set_random_seed(3)
    patch_tensorflow("mixed_bfloat16", keep_float32=("head", "LSTM"))
    model = keras.Sequential([L.Dense(3), L.LSTM(3), L.Dense(1, name="head")])
    model.compile("sgd", "mse")
    x = np.ones((4, 5, 4), "float32")
    model.fit(x, np.ones((4, 1)), verbose=0)
    path = str(tmp_path / "model.keras")
    model.save(path)
    answer = model.predict(x, verbose=0)
    loaded = keras.models.load_model(path)
    assert [x.compute_dtype for x in loaded.layers] == ["bfloat16", *["float32"] * 2]
    unpatch_tensorflow()
    loaded = keras.models.load_model(path)
    assert {x.dtype_policy.name for x in loaded.layers} == {"float32"}
    np.testing.assert_allclose(loaded.predict(x, verbose=0), answer, atol=0.02)
