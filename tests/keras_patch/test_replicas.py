"""Repeated ids under `MirroredStrategy`, within one replica and across two."""

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
import keras
from nano_init import patch_tensorflow
patch_tensorflow()
# A second strategy would reuse the collective numbers of the first.
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2

IDS, ROWS = [[2, 5, 2], [2, 0, 5]], 6
VALUES = 0.1 * (1 + np.arange(12).reshape(2, 3, 2)).astype("float32")

def gradient(replica, sparse):
    slices = tf.IndexedSlices(
        tf.gather(VALUES, replica), tf.gather(IDS, replica), tf.constant([ROWS, 2])
    )
    return slices if sparse else tf.convert_to_tensor(slices)

def trained(make, sparse):
    with strategy.scope():
        table = keras.Variable(np.linspace(-1, 1, ROWS * 2, dtype="float32").reshape(ROWS, 2))
        optimizer = make()
        optimizer.build([table])

    @tf.function
    def step():
        def replica():
            place = tf.distribute.get_replica_context().replica_id_in_sync_group
            optimizer.apply_gradients([(gradient(place, sparse), table)])
        strategy.run(replica)

    for _ in range(3):
        step()
    return np.asarray(table)

def alone(make):
    table = keras.Variable(np.linspace(-1, 1, ROWS * 2, dtype="float32").reshape(ROWS, 2))
    optimizer = make()
    optimizer.build([table])
    for _ in range(3):
        optimizer.apply_gradients([(gradient(0, False) + gradient(1, False), table)])
    return np.asarray(table)

for make in (lambda: keras.optimizers.Adam(0.1), lambda: keras.optimizers.Adagrad(0.1),
             lambda: keras.optimizers.RMSprop(0.1)):
    sparse, dense, one = trained(make, True), trained(make, False), alone(make)
    np.testing.assert_allclose(sparse, dense, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sparse, one, rtol=1e-5, atol=1e-6)

# With lazy Adam, rows that a replica names change equally; rows 1, 3 and 4 stay.
adam = lambda: keras.optimizers.Adam(0.1)
dense = trained(adam, False)
patch_tensorflow(lazy_adam=True)
lazy, start = trained(adam, True), np.linspace(-1, 1, ROWS * 2).reshape(ROWS, 2)
np.testing.assert_allclose(lazy[[0, 2, 5]], dense[[0, 2, 5]], rtol=1e-5, atol=1e-6)
np.testing.assert_array_equal(lazy[[1, 3, 4]], start.astype("float32")[[1, 3, 4]])
print("equal")
"""


def test_two_replicas_with_repeated_ids_match_one_with_the_summed_dense_gradient():
    pytest.importorskip("tensorflow")
    environ = {**os.environ, "PYTHONPATH": PYTHON_PATH, "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environ, capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == "equal", result.stderr
