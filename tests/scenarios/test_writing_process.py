"""The files of a script on two workers are written once and completely, by the chief alone."""

from __future__ import annotations

import pytest

pytest.importorskip("tensorflow")

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

WRITING = """
model = small(keras.layers.Dropout(0.5), keras.layers.BatchNormalization())
model.compile("adam", "mse")
model.fit(x, y, batch_size=8, epochs=2, verbose=2, callbacks=[
    keras.callbacks.ModelCheckpoint("checkpoint-{epoch}.weights.h5", save_weights_only=True),
    keras.callbacks.CSVLogger("log.csv"),
    keras.callbacks.BackupAndRestore("backup", delete_checkpoint=False),
    keras.callbacks.TensorBoard("board"),
])
checkpoint = tf.train.Checkpoint(weights=model.weights[0].value)
# Names per worker show whether a worker other than the chief wrote.
tf.saved_model.save(checkpoint, f"module{index}")
checkpoint.save(f"saved{index}/one")
checkpoint.write(f"saved{index}/two")
manager = tf.train.CheckpointManager(checkpoint, "managed", max_to_keep=1)
paths = [manager.save(), manager.save(), manager.latest_checkpoint]
before = model.weights[0].numpy()
model.weights[0].assign(0.0 * before)
checkpoint.restore(tf.train.latest_checkpoint("managed")).assert_consumed()
assert np.array_equal(model.weights[0].numpy(), before)
model.save("whole.keras")
again = keras.models.load_model("whole.keras")
assert np.array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
model.export("exported", verbose=False)
tell(weights=weights(model), paths=paths)
"""


def test_only_the_chief_writes_files_and_progress_and_all_workers_read_complete_files(
    run, tmp_path
):
    result, told = run(WRITING)

    assert result.stdout.count("Epoch 1/2") == 1
    assert told[0] == told[1]
    assert {path.name for path in tmp_path.iterdir()} == {
        "s.py", "told0", "told1", "checkpoint-1.weights.h5", "checkpoint-2.weights.h5",
        "log.csv", "backup", "whole.keras", "exported", "board", "saved0", "managed", "module0",
    }  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "backup").iterdir()) == [
        "latest.weights.h5", "training_metadata.json",
    ]  # fmt: skip
    assert {path.name for path in (tmp_path / "saved0").iterdir()} == {
        "checkpoint", "one-1.index", "one-1.data-00000-of-00001",
        "two.index", "two.data-00000-of-00001",
    }  # fmt: skip
    # The manager keeps the last checkpoint, and no other worker deleted it.
    kept = told[0]["paths"][-1].removeprefix("managed/")
    assert {path.name for path in (tmp_path / "managed").iterdir()} == {
        "checkpoint", f"{kept}.index", f"{kept}.data-00000-of-00001",
    }  # fmt: skip
    events = [path.name for path in (tmp_path / "board").rglob("*tfevents*")]
    assert len(events) == 1
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows] == ["epoch", "0", "1"]


GUARDED = """
class Counting(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense, self.seen = keras.layers.Dense(1), keras.metrics.Sum(name="seen")
    def call(self, inputs):
        return self.dense(inputs)
    def train_step(self, batch):
        self.seen.update_state(tf.ones_like(batch[1]))
        return super().train_step(batch)
class Save(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.save_weights(f"epoch{epoch}.weights.h5")
model = Counting()
model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
own = [Save(), keras.callbacks.ModelCheckpoint("best.weights.h5", save_weights_only=True)]
model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=own if index == WRITER else [])
if index == WRITER:
    model.save_weights("between.weights.h5")
predicted = model.predict(x, verbose=0)
if index == WRITER:
    tf.train.Checkpoint(model=model).write("checkpoint")
    tf.train.Checkpoint(model=model).save("counted/one")
model.fit(x, y, batch_size=8, verbose=0)
# All save: only the first worker's file is written, and all read it.
model.save_weights(f"all{index}.weights.h5")
before = weights(model)
model.load_weights("all0.weights.h5")
assert weights(model)[:2] == before[:2]
tell(weights=before[:2], predicted=predicted.tolist())
if index == WRITER:
    model.save("end.keras")
"""


@pytest.mark.parametrize("writer", [0, 1])
def test_one_worker_writes_files_while_the_others_continue(run, tmp_path, writer):
    _, told = run(f"WRITER = {writer}\n" + GUARDED)
    alone = run("WRITER = None\n" + GUARDED)[1]

    assert told[0] == told[1] == alone[0]
    assert {path.name for path in tmp_path.iterdir()} == {
        "s.py", "told0", "told1", "epoch0.weights.h5", "epoch1.weights.h5", "best.weights.h5",
        "between.weights.h5", "checkpoint.index", "checkpoint.data-00000-of-00001",
        "all0.weights.h5", "end.keras", "counted",
    }  # fmt: skip
    assert (tmp_path / "counted" / "one-1.index").exists()


RESUMING = """
restarts, steps = int(os.environ["NANO_INIT_RESTARTS"]), 0
def die():
    os.kill(os.getpid(), 9)
class DieBetweenEpochs(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if MOMENT == "between epochs" and (restarts, epoch, index) == (0, 1, 1):
            die()
class DieWithinAStep(keras.layers.Layer):
    def call(self, inputs):
        with tf.control_dependencies([tf.py_function(self.count, [], [])]):
            return tf.identity(inputs)
    def count(self):
        global steps
        steps += 1
        # The third epoch's third step, while the other worker waits for this one's gradients.
        if MOMENT == "within a step" and (restarts, steps, index) == (0, 13, 1):
            die()
model = small(keras.layers.Dense(4), DieWithinAStep())
model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse", jit_compile=False)
# As on hosts without a shared file system, only the chief finds the chief's files.
folder = f"backup{index}" + MOMENT
history = model.fit(x, y, batch_size=8, epochs=4, verbose=0, shuffle=False,
    callbacks=[keras.callbacks.BackupAndRestore(folder), DieBetweenEpochs()])
tell(weights=weights(model), epochs=history.epoch)
"""


def test_a_killed_job_resumes_from_its_backup_to_the_result_of_an_uninterrupted_run(run, tmp_path):
    unbroken = run("MOMENT = 'never'\n" + RESUMING)[1]
    for moment in ("between epochs", "within a step"):
        result, told = run(f"MOMENT = {moment!r}\n" + RESUMING, "--max-restarts", "1")

        assert result.stderr.count("restarting the job (1 of 1)") == 1
        assert told[0] == told[1]
        assert told[0]["weights"] == unbroken[0]["weights"]
        assert len(told[0]["epochs"]) < 4
        assert not list(tmp_path.glob("backup*/*"))


LEGACY_WRITING = """
import tf_keras
tf_keras.utils.set_random_seed(1)
model = tf_keras.Sequential([tf_keras.layers.Dense(4, input_shape=(3,)), tf_keras.layers.Dense(1)])
model.compile("adam", "mse")
model.fit(x, y, batch_size=8, epochs=2, verbose=2, callbacks=[
    tf_keras.callbacks.ModelCheckpoint("checkpoint-{epoch}.h5", save_weights_only=True),
    tf_keras.callbacks.ModelCheckpoint("checkpoint-{epoch}.keras"),
    tf_keras.callbacks.BackupAndRestore("backup", delete_checkpoint=False),
    tf_keras.callbacks.CSVLogger("log.csv"),
    tf_keras.callbacks.TensorBoard("board"),
])
# Names per worker show whether a worker other than the chief wrote.
names = [f"{kind}{index}" for kind in ("whole", "saved", "moved")]
model.save(names[0] + ".keras")
model.save(names[1])
tf_keras.models.save_model(model, names[2] + ".h5")
model.save_weights(f"weights{index}")
tf.train.Checkpoint(model=model).write(f"written{index}")
chief = tf_keras.models.load_model("whole0.keras")
tell(weights=weights(chief), own=weights(model))
"""


def test_with_legacy_keras_only_the_chief_writes_files(run, tmp_path):
    pytest.importorskip("tf_keras", reason="legacy Keras is not installed")
    result, told = run(LEGACY_WRITING)

    assert result.stdout.count("Epoch 1/2") == 1
    assert told[0] == told[1]
    assert told[0]["weights"] == told[0]["own"]
    assert {path.name for path in tmp_path.iterdir()} == {
        "s.py", "told0", "told1", "checkpoint-1.h5", "checkpoint-2.h5", "checkpoint-1.keras",
        "checkpoint-2.keras", "backup", "log.csv", "board", "whole0.keras", "saved0", "moved0.h5",
        "checkpoint", "weights0.index", "weights0.data-00000-of-00001",
        "written0.index", "written0.data-00000-of-00001",
    }  # fmt: skip
    events = [path.name for path in (tmp_path / "board").rglob("*tfevents*")]
    assert len(events) == 1
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows] == ["epoch", "0", "1"]


LEGACY_GUARDED = """
import tf_keras
tf_keras.utils.set_random_seed(1)
model = tf_keras.Sequential([tf_keras.layers.Dense(4, input_shape=(3,)), tf_keras.layers.Dense(1)])
model.compile("sgd", "mse", metrics=["mae"])
own = [tf_keras.callbacks.ModelCheckpoint("each-{epoch}.h5", save_weights_only=True)]
model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[] if index else own)
if index == 0:
    model.save_weights("between")
model.evaluate(x, y, verbose=0)
if index == 0:
    model.save("again.keras")
model.predict(x, verbose=0)
model.save("all.h5")
tell(weights=weights(model))
if index == 0:
    model.save("end.keras")
"""


def test_with_legacy_keras_one_worker_writes_while_the_others_continue(run, tmp_path):
    pytest.importorskip("tf_keras", reason="legacy Keras is not installed")
    _, told = run(LEGACY_GUARDED)

    assert told[0] == told[1]
    assert {path.name for path in tmp_path.iterdir()} == {
        "s.py", "told0", "told1", "each-1.h5", "each-2.h5", "checkpoint", "between.index",
        "between.data-00000-of-00001", "again.keras", "all.h5", "end.keras",
    }  # fmt: skip
