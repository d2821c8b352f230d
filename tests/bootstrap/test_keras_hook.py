"""Keras is patched when a program or its child processes import it, under any name."""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

# One program that imports Keras in every way, each in its own process.
WAYS_IN = """
import multiprocessing, subprocess, sys

def spawned(_):
    from tensorflow.keras import layers
    return layers.Dense(1).dtype_policy.name

if __name__ == "__main__":
    path = list(sys.path)
    import tensorflow as tf
    assert sys.path == path, sys.path
    print("tf.keras", tf.keras.layers.Dense(1).dtype_policy.name, flush=True)
    print("own dtype", tf.keras.layers.Dense(1, dtype="float32").dtype_policy.name, flush=True)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print("spawned", *pool.map(spawned, [0]), flush=True)
    code = "import keras; print('subprocess', keras.layers.Dense(1).dtype_policy.name)"
    subprocess.run([sys.executable, "-c", code], check=True)
"""


@pytest.mark.tensorflow
@pytest.mark.slow
def test_every_way_to_import_keras_is_patched_also_in_child_processes(
    nano_run: Run, tmp_path: Path
) -> None:
    pytest.importorskip("tensorflow", reason="patches the real Keras")
    (tmp_path / "s.py").write_text(WAYS_IN)
    result = nano_run("-q", "--precision", "mixed_bfloat16", "s.py")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "tf.keras mixed_bfloat16",
        "own dtype float32",
        "spawned mixed_bfloat16",
        "subprocess mixed_bfloat16",
    ]


@pytest.mark.tensorflow
@pytest.mark.slow
@pytest.mark.parametrize("names", ["all", "lazy_imports"])
def test_keras_is_patched_whichever_import_finders_are_active(
    nano_run: Run, tmp_path: Path, names: str
) -> None:
    """A finder may remove itself from sys.meta_path while Python iterates over it."""
    (tmp_path / "s.py").write_text("import keras; print(keras.layers.Dense(1).dtype_policy.name)")
    result = nano_run("-q", "--precision", "mixed_bfloat16", "--disable", names, "s.py")
    assert (result.stdout, result.returncode) == ("mixed_bfloat16\n", 0), result.stderr


LEGACY = """
import tensorflow as tf
print(tf.keras.__name__.split(".")[0], tf.keras.layers.Dense(1).compute_dtype, flush=True)
import keras
print(keras.__version__.split(".")[0], keras.layers.Dense(1).compute_dtype)
print(tf.keras.layers.Dense(1).compute_dtype)
"""


@pytest.mark.tensorflow
@pytest.mark.slow
@pytest.mark.parametrize("first", ["tensorflow", "keras"])
def test_legacy_keras_is_patched_alone_and_alongside_keras_3(
    nano_run: Run, tmp_path: Path, first: str
) -> None:
    pytest.importorskip("tf_keras", reason="legacy Keras is not installed")
    (tmp_path / "s.py").write_text(f"import {first}\n{LEGACY}")
    legacy = {"TF_USE_LEGACY_KERAS": "1"}
    result = nano_run("-q", "--precision", "mixed_bfloat16", "s.py", env=legacy)
    assert "unpatched" not in result.stderr
    assert result.stdout.splitlines() == ["tf_keras bfloat16", "3 bfloat16", "bfloat16"]


def test_a_keras_that_cannot_be_patched_is_reported_and_the_script_runs(
    nano_run: Run, tmp_path: Path
) -> None:
    (tmp_path / "keras.py").write_text("value = 5")
    (tmp_path / "s.py").write_text("import keras, sys; print(keras.value); sys.exit(3)")
    result = nano_run("-q", "--precision", "mixed_bfloat16", "s.py")
    assert (result.stdout, result.returncode) == ("5\n", 3)
    assert result.stderr.startswith("nano-run: ")
    assert result.stderr.endswith("; the script runs unpatched\n")
    assert result.stderr.count("\n") == 1


def test_a_keras_that_fails_to_import_fails_as_under_python(
    nano_run: Run, python: Run, tmp_path: Path
) -> None:
    (tmp_path / "keras.py").write_text("raise ImportError('broken')")
    (tmp_path / "s.py").write_text(
        "for attempt in range(2):\n"
        "    try:\n"
        "        import keras\n"
        "    except ImportError as error:\n"
        "        print(attempt, error)\n"
        "import keras\n"
    )
    ours, theirs = nano_run("-q", "s.py"), python("s.py")
    assert ours.stdout == theirs.stdout == "0 broken\n1 broken\n"
    assert ours.returncode == theirs.returncode == 1
    assert ours.stderr.splitlines()[-1] == theirs.stderr.splitlines()[-1]


def test_a_missing_keras_fails_as_under_python(nano_run: Run, python: Run, tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text("import sys; sys.path[:] = []\nimport keras")
    ours, theirs = nano_run("-q", "s.py"), python("s.py")
    assert (ours.stderr, ours.returncode) == (theirs.stderr, theirs.returncode)


def test_only_the_first_keras_is_hooked_and_the_loader_is_restored(
    nano_run: Run, tmp_path: Path
) -> None:
    (tmp_path / "keras.py").write_text("")
    (tmp_path / "s.py").write_text(
        "import importlib, sys, keras\n"
        "print(type(keras.__loader__).__name__, vars(keras.__loader__).keys() & {'exec_module'})\n"
        "importlib.reload(keras)\n"
    )
    result = nano_run("-q", "s.py")
    assert result.stdout == "SourceFileLoader set()\n"
    assert result.stderr.count("runs unpatched") == 1


def test_a_loader_shared_with_other_modules_still_loads_them(
    nano_run: Run, python: Run, tmp_path: Path
) -> None:
    """One zipimporter loads all modules of its archive, and is returned for each find_spec."""
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("keras.py", "value = 5")
        archive.writestr("other.py", "value = 6")
    (tmp_path / "s.py").write_text(
        "import importlib.util, sys\n"
        "sys.path.insert(0, 'all.zip')\n"
        "importlib.util.find_spec('keras'), importlib.util.find_spec('keras')\n"
        "import other\n"
        "print(other.value, 'keras' in sys.modules)\n"
        "import keras\n"
        "print(keras.value, vars(keras.__loader__).keys() & {'exec_module'})\n"
    )
    result = nano_run("-q", "s.py")
    assert result.stdout == python("s.py").stdout == "6 False\n5 set()\n"
    assert result.stderr.count("runs unpatched") == 1
