"""Several workers train to the numbers of one process on the same batches.

A sum over the workers' shares adds the same terms in another order: results are equal to
float32 rounding, some steps long. `BatchNormalization(synchronized=True)` takes the variance
as a difference of means (keras/src/backend/tensorflow/nn.py), which loses some digits more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("tensorflow")

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
START = "import sys; from nano_init.cli.run import main; sys.exit(main())"
NAMES = [
    "arrays",
    "sample_weights",
    "mean_by_weights",
    "sums",
    "tiny_batches",
    "tf_data",
    "unknown_length",
    "endless",
    "generator",
    "py_dataset",
    "steps_per_execution",
    "clipped",
    "compiled",
    "accumulated",
    "averaged_weights",
    "embedding",
    "masked",
    "regularized",
    "synchronized_norm",
    "moving_moments",
    "own_step",
    "outputs",
    "eager",
    "on_batch",
    "callbacks",
]
# Those that add up something of their own within a step.
APART = ["arrays", "mean_by_weights", "steps_per_execution", "embedding", "masked"]
TOLERANCE = {"synchronized_norm": 1e-4}

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]


def run(
    folder: Path, workers: int, *names: str, **variables: str
) -> list[dict[str, dict[str, object]]]:
    """Run trainings on workers, and return what each of them printed, by training."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("NANO_", "TF_", "PYTHON"))}
    flags = ["-q", "--precision", "float32", "--oversubscribe", "--log-dir", str(folder)]
    result = subprocess.run(
        [sys.executable, "-c", START, *flags, "--nproc-per-node", str(workers),
         str(HERE / "programs" / "trainings.py"), *names],
        env={**kept, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", **variables},
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    outputs = []
    for index in range(workers):
        lines = (folder / f"worker-{index}.log").read_text().splitlines()
        found = [line.split(" ", 2)[1:] for line in lines if line.startswith("RESULT ")]
        outputs.append({name: json.loads(text) for name, text in found})
    return outputs


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return run(tmp_path_factory.mktemp("alone"), 1)[0]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return run(tmp_path_factory.mktemp("pair"), 2)


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    return run(tmp_path_factory.mktemp("apart"), 2, *APART, NANO_INIT_SHARED_MEMORY="0")


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    return run(tmp_path_factory.mktemp("four"), 4, "arrays", "tiny_batches")


def assert_alike(expected, actual, tolerance, path=""):
    if isinstance(expected, dict):
        assert expected.keys() == actual.keys(), path
        for name, value in expected.items():
            assert_alike(value, actual[name], tolerance, f"{path}/{name}")
    else:
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance, err_msg=path)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "moving_moments"])
def test_two_workers_train_as_one_process_does(alone, pair, name):
    for worker in pair:
        assert_alike(alone[name], worker[name], TOLERANCE.get(name, 2e-6), name)


@pytest.mark.parametrize("name", APART)
def test_two_workers_without_shared_memory_train_as_one_process_does(alone, apart, name):
    for worker in apart:
        assert_alike(alone[name], worker[name], 2e-6, name)


@pytest.mark.parametrize("name", ["arrays", "tiny_batches"])
def test_four_workers_train_as_one_process_does(alone, four, name):
    for worker in four:
        assert_alike(alone[name], worker[name], 2e-6, name)


@pytest.mark.parametrize("name", NAMES)
def test_all_workers_have_bitwise_equal_weights_and_results(pair, name):
    assert pair[0][name] == pair[1][name]
