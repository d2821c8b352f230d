"""Files, configurations and exported models are float32."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from nano_init import unpatch_tensorflow
from nano_init.keras_patch.precision.own_policy import OwnName, is_own

pytestmark = [pytest.mark.tensorflow, pytest.mark.usefixtures("mixed")]

# Earlier versions of Keras 3 have no such argument.
HAS_VERBOSE = "verbose" in inspect.signature(keras.export.ExportArchive.write_out).parameters
QUIET = {"verbose": False} if HAS_VERBOSE else {}

X = np.random.default_rng(5).normal(size=(4, 6)).astype("float32")


def small(**options):
    inputs = keras.Input((6,))
    hidden = layers.Dense(5, activation="gelu", **options)(inputs)
    return keras.Model(inputs, layers.Dense(2)(hidden + 1.0))


def float32_answer(model, x):
    kernels = model.get_weights()
    hidden = x @ kernels[0] + kernels[1]
    hidden = tf.nn.gelu(hidden).numpy() + 1
    return hidden @ kernels[2] + kernels[3]


def test_a_json_description_omits_bfloat16_and_loads_as_mixed_under_the_patch():
    model = small()
    text = model.to_json()
    assert "bfloat16" not in text
    again = keras.models.model_from_json(text)
    assert [layer.compute_dtype for layer in again.layers[1:]] == ["bfloat16"] * 2
    # Keras 3.4 and 3.5 describe a cast before each layer, and a loaded model has new casts.
    if '"Cast"' not in text:
        assert again.to_json() == text
    unpatch_tensorflow()
    plain = keras.models.model_from_json(text)
    assert {layer.dtype_policy.name for layer in plain.layers} == {"float32"}


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "float32", "float64"])
def test_a_policy_set_by_the_script_is_saved_unchanged(dtype):
    model = small(dtype=dtype)
    config = model.layers[1].get_config()["dtype"]
    # Keras 3.3 writes only its name.
    if not isinstance(config, str):
        config, kept = config["config"]["name"], "nano_init" in config
        assert not kept
    assert config == dtype
    assert keras.models.clone_model(model).layers[1].dtype_policy.name == dtype


def test_clones_and_copies_use_the_default_policy():
    layer = layers.Dense(2)
    for other in (layers.Dense.from_config(layer.get_config()), copy.deepcopy(layer)):
        assert is_own(other.dtype_policy)
        assert other.compute_dtype == "bfloat16"


def test_a_pickled_policy_name_is_a_plain_string():
    name = pickle.loads(pickle.dumps(OwnName("mixed_bfloat16")))
    assert type(name) is str
    assert json.dumps({"name": OwnName("mixed_bfloat16")}) == '{"name": "mixed_bfloat16"}'


def served(folder):
    loaded = tf.saved_model.load(folder)
    function = loaded.signatures["serving_default"]
    kinds = {op.node_def.attr["T"].type for op in _ops(function.graph)}
    assert tf.bfloat16.as_datatype_enum not in kinds
    (answer,) = function(tf.constant(X)).values()
    return answer.numpy()


def _ops(graph):
    definition = graph.as_graph_def()
    for node in definition.node:
        yield graph.get_operation_by_name(node.name)
    for function in definition.library.function:
        for node in function.node_def:
            assert tf.bfloat16.as_datatype_enum not in {a.type for a in node.attr.values()}


def by_export(model, folder):
    model.export(folder, **QUIET)


def by_archive(model, folder):
    archive = keras.export.ExportArchive()
    archive.track(model)
    spec = tf.TensorSpec((None, 6), tf.float32)
    archive.add_endpoint("serving_default", model.call, [spec])
    archive.write_out(folder, **QUIET)


def by_saved_model(model, folder):
    module = tf.Module()
    module.model = model
    spec = tf.TensorSpec((None, 6), tf.float32)
    module.run = tf.function(lambda x: {"y": module.model(x)}, input_signature=[spec])
    tf.saved_model.save(module, folder, signatures={"serving_default": module.run})


@pytest.mark.parametrize("export", [by_export, by_archive, by_saved_model])
def test_an_exported_model_computes_in_float32_and_the_model_stays_mixed(export, tmp_path):
    model = small()
    model.predict(X, verbose=0)
    export(model, str(tmp_path / "saved"))
    np.testing.assert_allclose(served(str(tmp_path / "saved")), float32_answer(model, X), atol=1e-5)
    assert model.layers[1].compute_dtype == "bfloat16"


def test_a_saved_model_can_be_called_as_a_layer(tmp_path):
    model, folder = small(), str(tmp_path / "saved")
    by_export(model, folder)
    layer = layers.TFSMLayer(folder, call_endpoint="serve")
    np.testing.assert_allclose(layer(X), float32_answer(model, X), atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(
    tf.__version__.startswith("2.16."), reason="TensorFlow 2.16 aborts at a model of Keras 3"
)
def test_a_tflite_model_computes_in_float32():
    model = small()
    content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    with warnings.catch_warnings():
        # TensorFlow 2.18 and later recommend another package.
        warnings.simplefilter("ignore", UserWarning)
        interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.resize_tensor_input(0, X.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], X)
    interpreter.invoke()
    answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(answer, float32_answer(model, X), atol=1e-4)
