"""Keras 2 (`tf_keras`) under TF_USE_LEGACY_KERAS, alone and next to Keras 3."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
PYTHON_PATH = os.pathsep.join((ROOT, os.path.join(ROOT, "tests", "lean_imports")))
pytestmark = pytest.mark.tensorflow


def run(code, *, is_legacy=True):
    environ = {**os.environ, "PYTHONPATH": PYTHON_PATH, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environ["TF_USE_LEGACY_KERAS"] = "1" if is_legacy else "0"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


WITHOUT_TF_KERAS = """
import sys
from importlib.machinery import PathFinder
class WithoutTfKeras(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition('.')[0] == 'tf_keras':
            return None
        return super().find_spec(name, path, target)
sys.meta_path[:] = [f for f in sys.meta_path if f is not PathFinder] + [WithoutTfKeras]
"""


def test_a_missing_tf_keras_is_reported_in_one_sentence():
    code = WITHOUT_TF_KERAS + (
        "from nano_init import patch_tensorflow\n"
        "try:\n    patch_tensorflow()\nexcept RuntimeError as error:\n    print(error)"
    )
    assert run(code).stdout.strip() == (
        "TF_USE_LEGACY_KERAS is set: pip install tf_keras, or unset it"
    )


SCRIPT = """
import sys
import numpy as np
import tensorflow as tf
from nano_init import patch_tensorflow, unpatch_tensorflow
patch_tensorflow('mixed_bfloat16')
keras = tf.keras
print('keras 2:', keras.layers.Dense.__module__.startswith('tf_keras'))
model = keras.Sequential([keras.Input((2,)), keras.layers.Activation('softmax')])
model.compile(loss='sparse_categorical_crossentropy', metrics=['accuracy'])
x = np.array([[-20.0, 20.0]], 'float32')
print('loss:', round(model.evaluate(x, np.zeros(1), verbose=0)[0], 2))
print('predict:', model.predict(x, verbose=0).dtype)
class Wrapped(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.embedding = keras.layers.Embedding(5000, 4)
    def call(self, x):
        return self.embedding(x[:, 0])
layer = Wrapped()
inputs = keras.Input((2,))
model = keras.Model(inputs, layer(inputs))
found = model.predict(np.full((1, 2), 2909), verbose=0)
table = tf.cast(layer.embedding.embeddings, tf.bfloat16)
print('row:', np.array_equal(found[0], tf.cast(table, tf.float32)[2909].numpy()))
import keras as keras3
patch_tensorflow('mixed_bfloat16')
print('both:', keras.layers.Dense(1).compute_dtype, keras3.layers.Dense(1).compute_dtype)
unpatch_tensorflow()
print('after:', keras.layers.Dense(1).compute_dtype, keras3.layers.Dense(1).compute_dtype)
patch_tensorflow('mixed_bfloat16')
keras.mixed_precision.set_global_policy('float64')
unpatch_tensorflow()
print('own:', keras.layers.Dense(1).compute_dtype)
"""


@pytest.mark.skipif(find_spec("tf_keras") is None, reason="tf_keras is not installed")
def test_keras_2_is_patched_alone_and_together_with_keras_3():
    result = run(SCRIPT)
    assert result.stdout.splitlines() == [
        "keras 2: True",
        "loss: 40.0",
        "predict: float32",
        "row: True",
        "both: bfloat16 bfloat16",
        "after: float32 float32",
        "own: float64",
    ], result.stderr


KEEPING = """
import numpy as np
import tensorflow as tf
from nano_init import patch_tensorflow, unpatch_tensorflow
L = tf.keras.layers
patch_tensorflow('mixed_bfloat16', keep_float32=('head', 'LSTM'))
model = tf.keras.Sequential([L.Dense(3), L.LSTM(3), L.Dense(1, name='head')])
model(np.ones((2, 5, 4), 'float32'))
print([x.compute_dtype for x in model.layers], model.layers[1].cell.compute_dtype)
unpatch_tensorflow()
tf.keras.mixed_precision.set_global_policy('mixed_bfloat16')
print(L.Dense(1, name='head').compute_dtype)
"""


def test_named_layers_and_their_sublayers_stay_in_float32():
    pytest.importorskip("tf_keras", reason="legacy Keras is not installed")
    result = run(KEEPING)
    assert result.stdout.splitlines() == ["['bfloat16', 'float32', 'float32'] float32", "bfloat16"]


LISTING = """
from nano_init import active_paths, patch_tensorflow
patch_tensorflow(disable=('adam', 'legacy_adam'))
paths = [p for p in active_paths().parts if p.kind == 'faster path']
names = {'adam', 'sgd', 'legacy_adam', 'legacy_sgd', 'lazy_imports'}
print(*sorted(p.name for p in paths if p.name in names))
print(*sorted(p.name for p in paths if p.state == 'switched off'))
print(*(p.name for p in paths if p.state == 'stepped aside'))
"""


@pytest.mark.parametrize("is_legacy", [True, False])
def test_paths_for_the_keras_that_is_not_there_are_not_listed(is_legacy):
    pytest.importorskip("tf_keras", reason="legacy Keras is not installed")
    prefix = "legacy_" if is_legacy else ""
    names = sorted([f"{prefix}adam", f"{prefix}sgd", "lazy_imports"])
    found = run(LISTING, is_legacy=is_legacy)
    assert found.stdout.splitlines() == [" ".join(names), f"{prefix}adam", ""], found.stderr
