"""`benchmarks/training.py` refuses environments that lack a peer, in one sentence."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
TORCH = "NANO_TEST_TORCH"

# The models whose steps are written for TensorFlow have twins too.
PROGRAM = """
import json
from torch_models import TWINS
counts = {}
for name, twin in TWINS.items():
    counts[name] = sum(p.numel() for p in twin.build().parameters() if p.requires_grad)
print(json.dumps(counts))
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / "training.py"), "--models", "tiny", *arguments]
    environ = {**os.environ, "PYTHONPATH": str(FOLDER.parent)}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def environment(tmp_path: Path) -> Path:
    """Return a virtual environment with nothing in it."""
    folder = tmp_path / "empty"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder


@pytest.mark.parametrize("option", ["--torch", "--jax", "--bigdl"])
def test_a_folder_that_does_not_exist_is_refused(option: str, tmp_path: Path) -> None:
    done = run(option, str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert done.stderr == f"training.py: {option}: folder not found: {tmp_path}/nowhere\n"
    assert not done.stdout


def test_a_folder_without_python_is_refused(tmp_path: Path) -> None:
    done = run("--torch", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == (
        f"training.py: --torch: {tmp_path} is no virtual environment: "
        f"{tmp_path}/bin/python does not run\n"
    )


@pytest.mark.parametrize(
    ("option", "lacking", "install"),
    [
        ("--torch", "no torch and no numpy", "torch numpy"),
        ("--jax", "no keras and no jax and no numpy", "keras jax numpy"),
    ],
)
def test_an_environment_without_the_peer_is_refused(
    option: str, lacking: str, install: str, tmp_path: Path
) -> None:
    folder = environment(tmp_path)
    done = run(option, str(folder))
    assert done.returncode == 2
    assert done.stderr == (
        f"training.py: {option}: {folder} has {lacking}; install with "
        f"{folder}/bin/pip install {install}\n"
    )


@pytest.mark.slow
@pytest.mark.tensorflow
def test_each_model_has_a_twin_in_pytorch_with_as_many_parameters(benchmarks: Path) -> None:
    pytest.importorskip("tensorflow")
    folder = os.environ.get(TORCH)
    if not folder:
        pytest.skip(f"{TORCH} names no virtual environment with PyTorch")
    done = subprocess.run(
        [f"{folder}/bin/python", "-c", PROGRAM],
        env={"PYTHONPATH": str(FOLDER)},
        capture_output=True,
        text=True,
        check=True,
    )
    twins = json.loads(done.stdout)
    models = importlib.import_module("models")
    built = {
        name: sum(v.numpy().size for v in models.MODELS[name].build().trainable_variables)
        for name in models.SUITE
    }
    assert twins == built
