"""The optimizers of Keras 2 (`tf_keras`) under `MirroredStrategy` with two replicas."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PYTHON_PATH = os.pathsep.join((ROOT, os.path.join(ROOT, "tests", "lean_imports")))
pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

# Logical devices must be created before TensorFlow starts, so this runs in a separate process.
SCRIPT = """
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import tf_keras
from nano_init import patch_tensorflow, unpatch_tensorflow
from nano_init.keras_patch.faster import adam_ops
adam_ops._SPLIT_BY_KERNEL = range(16)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
kernels = []
for name in ("ResourceApplyAdam", "ResourceApplyKerasMomentum", "ResourceApplyRMSProp"):
    def counted(kernel=getattr(tf.raw_ops, name), **options):
        kernels.append(kernel)
        return kernel(**options)
    setattr(tf.raw_ops, name, counted)

def trained(make):
    tf_keras.utils.set_random_seed(1)
    layers = tf_keras.layers
    with strategy.scope():
        stack = [tf_keras.Input((4,)), layers.Embedding(9, 5), layers.Flatten()]
        model = tf_keras.Sequential([*stack, layers.Dense(3, "softmax")])
        model.compile(make(), "sparse_categorical_crossentropy")
    inputs, labels = np.random.randint(0, 7, (40, 4)), np.random.randint(0, 3, 40)
    model.fit(inputs, labels, batch_size=8, shuffle=False, verbose=0)
    return [*model.get_weights(), *(v.numpy() for v in model.optimizer.variables)]

optimizers = tf_keras.optimizers
for make in (
    lambda: optimizers.Adam(0.01),
    lambda: optimizers.AdamW(0.01, clipnorm=0.5),
    lambda: optimizers.SGD(0.05, 0.9, nesterov=True),
    lambda: optimizers.RMSprop(0.01, momentum=0.9),
):
    expected = trained(make)
    patch_tensorflow()
    kernels.clear()
    found = trained(make)
    unpatch_tensorflow()
    assert kernels
    for ours, plain in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=0, atol=1e-4)
print("same")
"""


def test_replicas_train_as_in_keras():
    pytest.importorskip("tf_keras", reason="legacy Keras is not installed")
    environ = {**os.environ, "PYTHONPATH": PYTHON_PATH, "TF_USE_LEGACY_KERAS": "1"}
    command = [sys.executable, "-c", SCRIPT]
    result = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert result.stdout.splitlines()[-1:] == ["same"], result.stderr
