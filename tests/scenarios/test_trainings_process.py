"""Several workers give the numbers of one process on the same batches.

A sum over the workers' shares adds the same terms in another order, so results are equal up to
float32 rounding over a few steps. `BatchNormalization(synchronized=True)` computes the variance
as a difference of means (keras/src/backend/tensorflow/nn.py), which loses a few more digits.
"""

from __future__ import annotations

import pytest

pytest.importorskip("numpy")
pytest.importorskip("tensorflow")

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
# Trainings that each sum something different within a step.
APART = ["arrays", "mean_by_weights", "steps_per_execution", "embedding", "masked"]
TOLERANCE = {"synchronized_norm": 1e-4}

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]


@pytest.fixture(scope="module")
def train(tmp_path_factory, start_program, read_results):
    """Return a function that runs trainings on workers and returns each worker's results."""

    def run(workers, *names, **variables):
        folder = tmp_path_factory.mktemp("logs")
        options = ["--log-dir", str(folder)]
        result = start_program(
            folder, "trainings.py", *names, workers=workers, options=options, **variables
        )
        assert result.returncode == 0, result.stderr[-3000:]
        logs = [folder / f"worker-{index}.log" for index in range(workers)]
        return [read_results(log.read_text()) for log in logs]

    return run


@pytest.fixture(scope="module")
def alone(train):
    return train(1)[0]


@pytest.fixture(scope="module")
def pair(train):
    return train(2)


@pytest.fixture(scope="module")
def apart(train):
    return train(2, *APART, NANO_INIT_SHARED_MEMORY="0")


@pytest.fixture(scope="module")
def four(train):
    return train(4, "arrays", "tiny_batches")


@pytest.mark.parametrize("name", [n for n in NAMES if n != "moving_moments"])
def test_two_workers_train_like_one_process(assert_close, alone, pair, name):
    for worker in pair:
        assert_close(alone[name], worker[name], name, atol=TOLERANCE.get(name, 2e-6))


@pytest.mark.parametrize("name", APART)
def test_two_workers_without_shared_memory_train_like_one_process(assert_close, alone, apart, name):
    for worker in apart:
        assert_close(alone[name], worker[name], name)


@pytest.mark.parametrize("name", ["arrays", "tiny_batches"])
def test_four_workers_train_like_one_process(assert_close, alone, four, name):
    for worker in four:
        assert_close(alone[name], worker[name], name)


@pytest.mark.parametrize("name", NAMES)
def test_all_workers_have_bitwise_equal_weights_and_results(pair, name):
    assert pair[0][name] == pair[1][name]
