"""Models that leave the process: exported, converted, saved and loaded."""

from __future__ import annotations

import json
import os
import tempfile

import numpy as np
import tensorflow as tf
from registry import case, keras
from training import CLASSES, FEATURES, IMAGES, fit

layers = keras.layers


def convolutional():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(4, activation="softmax"),
        ]
    )
    fit(model, IMAGES, CLASSES[:32])
    return model


def close(found, model, images=IMAGES[:2]):
    expected = model.predict(images, verbose=0)
    return float(np.abs(np.asarray(found, "float32") - expected).max() < 0.02)


@case(legacy=True)
def exported_for_serving():
    model, folder = convolutional(), tempfile.mkdtemp()
    model.export(folder)
    loaded = tf.saved_model.load(folder)
    signature = loaded.signatures["serving_default"]
    kinds = [s.dtype for s in signature.structured_outputs.values()]
    assert kinds == [tf.float32], kinds
    return close(loaded.serve(tf.constant(IMAGES[:2])), model)


@case
def exported_then_a_layer_again():
    model, folder = convolutional(), tempfile.mkdtemp()
    model.export(folder, verbose=False)
    served = layers.TFSMLayer(folder, call_endpoint="serve")
    inputs = keras.Input((8, 8, 3))
    again = keras.Model(inputs, served(inputs))
    return close(again.predict(IMAGES[:2], verbose=0), model)


@case(legacy=True)
def converted_for_mobile():
    model = convolutional()
    content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    assert taken["dtype"] == given["dtype"] == np.float32
    interpreter.set_tensor(taken["index"], IMAGES[:1])
    interpreter.invoke()
    return close(interpreter.get_tensor(given["index"]), model, IMAGES[:1])


@case(legacy=True)
def module_saved_with_its_layers():
    class Scorer(tf.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = layers.Dense(8, "relu"), layers.Dense(2)
            self.offset = tf.Variable([0.5, -0.5])

        @tf.function(input_signature=[tf.TensorSpec([None, 12], tf.float32)])
        def __call__(self, x):
            return self.second(self.first(x)) + self.offset

    scorer, folder = Scorer(), tempfile.mkdtemp()
    before = scorer(FEATURES[:3])
    tf.saved_model.save(scorer, folder)
    after = tf.saved_model.load(folder)(tf.constant(FEATURES[:3]))
    assert after.dtype == before.dtype == tf.float32
    return float(np.abs(after - before).max() < 0.02)


@case(legacy=True)
def saved_as_keras_and_hdf5():
    model, folder = convolutional(), tempfile.mkdtemp()
    for name in ("model.keras", "model.h5"):
        path = os.path.join(folder, name)
        model.save(path)
        again = keras.models.load_model(path)
        assert close(again.predict(IMAGES[:2], verbose=0), model)
        fit(again, IMAGES, CLASSES[:32], epochs=1)
    return 1.0


@case(legacy=True)
def weights_saved_and_loaded():
    model, folder = convolutional(), tempfile.mkdtemp()
    path = os.path.join(folder, "model.weights.h5")
    model.save_weights(path)
    expected = model.predict(IMAGES[:2], verbose=0)
    model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    model.load_weights(path)
    return float(np.abs(model.predict(IMAGES[:2], verbose=0) - expected).max() < 1e-6)


@case(legacy=True)
def described_as_json():
    model = convolutional()
    text = model.to_json()
    assert "bfloat16" not in text, "the description names the precision of this run"
    again = keras.models.model_from_json(text)
    again.set_weights(model.get_weights())
    assert json.loads(text)["class_name"] == "Sequential"
    return close(again.predict(IMAGES[:2], verbose=0), model)


@case(legacy=True)
def layer_with_its_own_config():
    @keras.utils.register_keras_serializable("patterns")
    class Scaled(layers.Layer):
        def __init__(self, factor=1.0, **options):
            super().__init__(**options)
            self.factor = factor

        def call(self, x):
            return x * tf.constant(self.factor) + tf.ones((12,))

        def get_config(self):
            return {**super().get_config(), "factor": self.factor}

    model = keras.Sequential([keras.Input((12,)), Scaled(0.5), layers.Dense(4, "softmax")])
    fit(model, FEATURES, CLASSES)
    path = os.path.join(tempfile.mkdtemp(), "model.keras")
    model.save(path)
    again = keras.models.load_model(path)
    assert again.layers[0].factor == 0.5
    return close(again.predict(FEATURES[:4], verbose=0), model, FEATURES[:4])


@case(legacy=True)
def checkpoint_of_model_and_optimizer():
    model = keras.Sequential([keras.Input((12,)), layers.Dense(4, "softmax")])
    fit(model, FEATURES, CLASSES)
    step = tf.Variable(3)
    checkpoint = tf.train.Checkpoint(step=step, model=model)
    path = checkpoint.save(os.path.join(tempfile.mkdtemp(), "point"))
    expected = model.predict(FEATURES[:4], verbose=0)
    step.assign(0)
    model.set_weights([0 * w for w in model.get_weights()])
    checkpoint.restore(path)
    assert int(step) == 3
    return float(np.abs(model.predict(FEATURES[:4], verbose=0) - expected).max() < 1e-6)


@case(legacy=True)
def cloned_and_copied():
    model = convolutional()
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    config = keras.Sequential.from_config(model.get_config())
    config.set_weights(model.get_weights())
    assert close(config.predict(IMAGES[:2], verbose=0), model)
    return close(clone.predict(IMAGES[:2], verbose=0), model)
