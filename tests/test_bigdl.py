"""BigDL-Nano's imports work without BigDL-Nano."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

TUTORIAL = """
import nano_init.bigdl
from bigdl.nano.tf import patch_tensorflow, unpatch_tensorflow
from bigdl.nano.tf.dispatcher import patch_tensorflow as again
from bigdl.nano.tf.keras import nano_bf16, Model, Sequential
from bigdl.nano.tf.keras.layers import Embedding
from bigdl.nano.tf.optimizers import SparseAdam
import keras, numpy as np

assert again is patch_tensorflow
patch_tensorflow(precision="mixed_bfloat16")
model = Sequential([Embedding(400, 4), keras.layers.Flatten(), keras.layers.Dense(1)])
model.compile(SparseAdam(), "mse")
x = np.array([[300, 301], [300, 399]])
model.fit(x, np.ones(2), verbose=0)
assert issubclass(Sequential, Model) and model.layers[0].compute_dtype == "bfloat16"

import tensorflow as tf
inputs = keras.Input(shape=(784,), name="digits")
hidden = keras.layers.Dense(64, activation="relu")(inputs)
logits = keras.layers.Dense(10, name="dense_logits")(hidden)
digits = Model(inputs, keras.layers.Activation("softmax", dtype="float32")(logits))
optimizer = keras.optimizers.RMSprop()
loss_object = tf.keras.losses.SparseCategoricalCrossentropy()
images = np.random.default_rng(1).random((64, 784), dtype="float32")
data = tf.data.Dataset.from_tensor_slices((images, np.arange(64) % 10)).batch(32)

@nano_bf16
@tf.function
def train_step(x, y):
    with tf.GradientTape() as tape:
        loss = loss_object(y, digits(x))
    gradients = tape.gradient(loss, digits.trainable_variables)
    optimizer.apply_gradients(zip(gradients, digits.trainable_variables))
    return loss

losses = [float(train_step(x, y)) for _ in range(8) for x, y in data]
assert losses[-1] < losses[0] and digits.output.dtype == "float32"
unpatch_tensorflow()
print("model's default dtype policy is still:", model.dtype_policy.name)
"""


def test_nothing_is_imported_before_a_name_is_used(python: Run, tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(
        "import sys, nano_init.bigdl, bigdl.nano.tf.keras\n"
        "print(sorted({'keras', 'tensorflow', 'numpy'} & set(sys.modules)))\n"
    )
    assert python("s.py").stdout == "[]\n"


def test_an_installed_bigdl_wins(python: Run, tmp_path: Path) -> None:
    (tmp_path / "bigdl" / "nano").mkdir(parents=True)
    (tmp_path / "bigdl" / "nano" / "__init__.py").write_text("value = 'installed'")
    (tmp_path / "s.py").write_text("import nano_init.bigdl, bigdl.nano; print(bigdl.nano.value)")
    assert python("s.py").stdout == "installed\n"


def test_nano_run_provides_the_names_without_an_import(nano_run: Run, tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(
        "import bigdl.nano.tf, sys\nprint(bigdl.nano.tf.__spec__.origin, 'keras' in sys.modules)"
    )
    result = nano_run("-q", "s.py")
    assert (result.stdout, result.stderr) == ("nano-init False\n", "")


def test_a_name_without_a_counterpart_raises_an_import_error(python: Run, tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(
        "import nano_init.bigdl\nfrom bigdl.nano.tf.keras import InferenceOptimizer"
    )
    result = python("s.py")
    assert result.returncode == 1
    assert "ImportError: bigdl.nano.tf.keras.InferenceOptimizer" in result.stderr


@pytest.mark.tensorflow
@pytest.mark.slow
def test_a_bigdl_nano_tutorial_runs(python: Run, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason="trains a model")
    (tmp_path / "s.py").write_text(TUTORIAL)
    result = python("s.py")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "model's default dtype policy is still: mixed_bfloat16\n"
