"""Trainings that finish, are refused, killed or interrupted leave no process behind."""

from __future__ import annotations

import json
import os
import random
import signal

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("tensorflow")

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

UNEVEN = """
model = small(keras.layers.Dense(4, activation="tanh"))
model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
# Batches of 11, 11, 11 and 7 rows: shares of 4, 4, 3 and of 3, 2, 2.
history = model.fit(x, y, batch_size=11, epochs=2, verbose=0).history
tell(weights=weights(model), **history)
"""


def test_three_workers_with_uneven_shares_train_like_one_process(run, processes):
    alone = run(UNEVEN, workers=1)[1][0]
    _, told = run(UNEVEN, workers=3)

    assert told[0] == told[1] == told[2]
    for name in ("loss", "mae"):
        np.testing.assert_allclose(told[0][name], alone[name], rtol=1e-5)
    for ours, theirs in zip(told[0]["weights"], alone["weights"], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert processes() == []


UNTRAINABLE = """
model = keras.Sequential([keras.Input((3,)), keras.layers.Rescaling(2.0)])
model.compile("sgd", "mse")
tell(**model.fit(x, x, batch_size=8, epochs=2, verbose=0).history)
"""


def test_a_model_without_variables_gets_a_warning_and_is_evaluated_as_in_one_process(
    run, processes
):
    alone, expected = run(UNTRAINABLE, workers=1)
    result, told = run(UNTRAINABLE)

    warning = "The model does not have any trainable weights"
    assert alone.stderr.count(f"UserWarning: {warning}") == 1
    assert result.stderr.count(f"UserWarning: {warning}") == 1
    assert told[0] == told[1]
    np.testing.assert_allclose(told[0]["loss"], expected[0]["loss"], rtol=1e-5)
    assert processes() == []


UNSHARABLE = """
class Scale(keras.Model):
    def __init__(self):
        super().__init__()
        self.factor = self.add_weight(shape=(), initializer="ones")
    def call(self, inputs):
        return inputs * self.factor
model = Scale()
model.compile("sgd", lambda y, outputs: tf.square(y - outputs))
model.fit(tf.data.Dataset.from_tensor_slices((x[:, 0], x[:, 0])), verbose=0)
"""


def test_data_without_rows_is_rejected_in_one_sentence_and_ends_all_workers(run, processes):
    result, _ = run(UNSHARABLE, fails=True)

    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert last.endswith(
        "UnsharableDataError: the data cannot be divided among workers, because its elements "
        "are scalars; batch the data set"
    )
    assert result.stderr.count("the data cannot be divided among workers") == 1
    assert processes() == []


# Marks each step of the chief, and takes long enough to be killed during one.
MARKED = """
import time
class Mark(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if index == 0:
            open(f"at{os.environ['NANO_INIT_RESTARTS']}-{time.monotonic_ns()}", "w").close()
            time.sleep(PAUSE)
open(f"pid{index}", "w").write(str(os.getpid()))
"""

BACKED_UP = """
model = small(keras.layers.Dense(4))
model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
history = model.fit(x, y, batch_size=8, epochs=6, verbose=0, shuffle=False,
    callbacks=[keras.callbacks.BackupAndRestore("backup"), Mark()])
tell(weights=weights(model), epochs=history.epoch)
"""


def test_a_chief_killed_at_random_resumes_to_the_result_of_an_uninterrupted_run(
    run, launch, processes, await_true, tmp_path
):
    unbroken = run("PAUSE = 0\n" + MARKED + BACKED_UP)[1]
    for path in [*tmp_path.glob("at0-*"), *tmp_path.glob("told*")]:
        path.unlink()
    steps = random.randrange(1, 26)  # of 30, so that the training has not finished by then
    print("killed after step", steps)
    launcher = launch("PAUSE = 0.1\n" + MARKED + BACKED_UP, "--max-restarts", "1")
    await_true(lambda: len(list(tmp_path.glob("at0-*"))) >= steps)
    os.kill(int((tmp_path / "pid0").read_text()), signal.SIGKILL)
    _, errors = launcher.communicate(timeout=200)

    assert launcher.returncode == 0, errors
    assert errors.count("was killed by SIGKILL") == 1
    assert errors.count("restarting the job (1 of 1)") == 1
    told = [json.loads((tmp_path / f"told{index}").read_text()) for index in range(2)]
    assert told[0] == told[1]
    assert told[0]["weights"] == unbroken[0]["weights"]
    # Complete epochs of 5 steps were backed up and are not trained again.
    assert len(told[0]["epochs"]) <= 6 - (steps - 1) // 5
    assert processes() == []


ENDLESS = """
model = small(keras.layers.Dense(4))
model.compile("sgd", "mse")
model.fit(x, y, batch_size=8, epochs=10**6, verbose=0, callbacks=[Mark()])
"""


@pytest.mark.parametrize(
    ("is_for_group", "number", "status"),
    [(True, signal.SIGINT, 130), (False, signal.SIGKILL, -signal.SIGKILL)],
    ids=["Ctrl-C", "kill -9 of the launcher"],
)
def test_an_interrupted_or_killed_launcher_leaves_no_process(
    launch, processes, await_true, tmp_path, is_for_group, number, status
):
    launcher = launch("PAUSE = 0.01\n" + MARKED + ENDLESS)
    await_true(lambda: len(list(tmp_path.glob("at0-*"))) >= 5)
    assert len(processes()) >= 3
    (os.killpg if is_for_group else os.kill)(launcher.pid, number)
    launcher.communicate(timeout=60)

    assert launcher.returncode == status
    await_true(lambda: processes() == [], 15)
