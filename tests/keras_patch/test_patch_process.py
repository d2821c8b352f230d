"""Tests that need a fresh process: import orders, missing packages, other backends."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PYTHON_PATH = os.pathsep.join((ROOT, os.path.join(ROOT, "tests", "lean_imports")))


def run(code, **environ):
    environ = {**os.environ, "PYTHONPATH": PYTHON_PATH, "TF_CPP_MIN_LOG_LEVEL": "3", **environ}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def test_importing_the_package_imports_no_framework():
    code = (
        "import sys, nano_init.patch, nano_init.keras_patch.precision.decorator\n"
        "from nano_init import nano_bf16, patch_tensorflow, unpatch_tensorflow\n"
        "nano_bf16(lambda x: x)\n"
        "print(sorted({'keras', 'numpy', 'tensorflow'} & set(sys.modules)))"
    )
    assert run(code).stdout.strip() == "[]"


BLOCK_TENSORFLOW = """
import sys
from importlib.machinery import PathFinder
class WithoutTensorFlow(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition('.')[0] in ('tensorflow', 'keras'):
            return None
        return super().find_spec(name, path, target)
sys.meta_path[:] = [f for f in sys.meta_path if f is not PathFinder] + [WithoutTensorFlow]
"""


def test_without_tensorflow_an_error_names_the_package_to_install():
    code = BLOCK_TENSORFLOW + (
        "from nano_init import patch_tensorflow\n"
        "try:\n    patch_tensorflow('mixed_bfloat16')\n"
        "except RuntimeError as error:\n    print(type(error).__name__, error)"
    )
    expected = "PatchError TensorFlow is not installed: pip install 'nano-init[tensorflow]'"
    assert run(code).stdout.strip() == expected


def test_another_backend_is_rejected_before_keras_is_imported():
    code = (
        "import sys\nfrom nano_init import patch_tensorflow\n"
        "try:\n    patch_tensorflow()\n"
        "except RuntimeError as error:\n    print(error, 'keras' in sys.modules)"
    )
    answer = run(code, KERAS_BACKEND="jax").stdout
    assert answer.startswith("Keras runs on the backend 'jax'")
    assert answer.strip().endswith("False")


def test_the_launcher_never_fails_the_script():
    code = BLOCK_TENSORFLOW + (
        "from nano_init.patch import apply_from_launcher\n"
        'apply_from_launcher(\'{"precision": "mixed_bfloat16"}\', "keras")\n'
        'apply_from_launcher(\'{"precision": "half"}\', "keras")\n'
        'apply_from_launcher(\'{"depth": 3}\', "keras")\n'
        "print('goes on')"
    )
    result = run(code)
    lines = result.stderr.strip().splitlines()
    assert result.stdout.strip() == "goes on"
    assert len(lines) == 3
    assert "'half' is unknown" in lines[1]
    assert all(line.endswith("; the script runs unpatched") for line in lines)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    "first",
    ["import keras", "import tensorflow as tf; keras = tf.keras", "from tensorflow import keras"],
)
def test_every_way_to_import_keras_gets_the_patch(first):
    code = (
        f"{first}\nfrom nano_init import patch_tensorflow\npatch_tensorflow('mixed_bfloat16')\n"
        "from tensorflow.keras import layers\nimport keras as k, tensorflow as tf\n"
        "made = [m.Dense(1) for m in (layers, k.layers, tf.keras.layers, keras.layers)]\n"
        "print({layer.compute_dtype for layer in made})"
    )
    assert run(code).stdout.strip() == "{'bfloat16'}"
