"""A step's values are Keras's, and training alone imports no strategy for several devices."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.tensorflow

pytest.importorskip("tensorflow")

MODULES = "('values', 'collective_all_reduce_strategy', 'tpu_strategy')"
MODEL = """
import sys
import keras, numpy as np, tensorflow as tf
keras.utils.set_random_seed(1)
x, y = np.ones((12, 3), "float32"), np.arange(12.0, dtype="float32")[:, None]
def model():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    return model
"""
TRAIN = """
one = model()
print(one.fit(x, y, batch_size=5, verbose=0).history)
print(one.evaluate(x, y, verbose=0, return_dict=True), one.predict(x, verbose=0).tolist())
print(one.train_on_batch(x, y), one.test_on_batch(x, y), one.predict_on_batch(x).tolist())
"""
IMPORTED = f"""
print([m for m in {MODULES} if "tensorflow.python.distribute." + m in sys.modules])
"""
MIRRORED = """
with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
    two = model()
print(two.fit(x, y, batch_size=5, verbose=0).history, two.predict(x, verbose=0).tolist())
"""


def run(nano_run, tmp_path, script, *options):
    (tmp_path / "train.py").write_text(MODEL + script)
    done = nano_run("-q", "--precision", "float32", *options, "train.py")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_training_imports_no_strategy_and_gives_the_same_values(nano_run, tmp_path):
    script = TRAIN + IMPORTED
    *values, imported = run(nano_run, tmp_path, script)
    *expected, usual = run(nano_run, tmp_path, script, "--disable", "replica_reduction")

    assert values == expected
    assert imported == "[]"
    assert "collective_all_reduce_strategy" in usual


def test_a_strategy_that_the_script_uses_gets_its_values_reduced(nano_run, tmp_path):
    script = TRAIN + MIRRORED + TRAIN
    found = run(nano_run, tmp_path, script)

    assert found == run(nano_run, tmp_path, script, "--disable", "replica_reduction")
    assert len(found) == 7
