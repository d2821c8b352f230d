"""Scripts on workers of one host, and what these told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
START = "import sys; from nano_init.cli.run import main; sys.exit(main())"

COMMON = """
import json, os, sys
import keras, numpy as np, tensorflow as tf
index = json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))["task"]["index"]
keras.utils.set_random_seed(1)
x = np.random.rand(40, 3).astype("float32")
y = x.sum(1, keepdims=True)
def tell(**values):
    with open(f"told{index}", "w") as file:
        json.dump(values, file)
def small(*layers):
    return keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(1)])
def weights(model):
    return [w.tolist() for w in model.get_weights()]
"""


@pytest.fixture
def run(tmp_path):
    """Run a script on workers in an empty folder, and return its process and what they told."""

    def start(script, *options, workers=2, fails=False, **variables):
        (tmp_path / "s.py").write_text(COMMON + script)
        stray = ("NANO_", "TF_", "PYTHON")
        kept = {n: v for n, v in os.environ.items() if not n.startswith(stray)}
        flags = ["-q", "--precision", "float32", "--oversubscribe", "--nproc-per-node"]
        result = subprocess.run(
            [sys.executable, "-c", START, *flags, str(workers), *options, "s.py"],
            env={**kept, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", **variables},
            cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        assert bool(result.returncode) == fails, result.stderr[-3000:]
        told = sorted(tmp_path.glob("told*"))
        return result, [json.loads(path.read_text()) for path in told]

    return start
