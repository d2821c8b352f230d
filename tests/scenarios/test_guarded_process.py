"""A script may save on some workers only, whatever the other workers are doing."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("tensorflow")

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

FITTED = """
model = small()
model.compile("sgd", "mse")
model.fit(x, y, batch_size=8, verbose=0)
"""

DIFFERENT = """
if index == GUARD:
    model.save_weights("one.weights.h5")
    model.save("own.keras")
model.save_weights("two.weights.h5")
# All workers read a complete file.
again = small()
again.load_weights("two.weights.h5")
assert weights(again) == weights(model)
model.fit(x, y, batch_size=8, verbose=0)
if index == 0:
    model.save_weights("first.weights.h5")
else:
    model.save_weights("others.weights.h5")
model.fit(x, y, batch_size=8, verbose=0)
# Names that differ only by a worker's number or the time mean one file.
model.save_weights(f"of_worker_{index}.weights.h5")
model.evaluate(x, y, batch_size=8, verbose=0)
tell(weights=weights(model))
"""


@pytest.mark.parametrize(("guard", "workers"), [(0, 2), (1, 2), (1, 3)])
def test_files_with_different_names_between_two_steps_are_separate_saves(
    run, tmp_path, guard, workers
):
    _, told = run(f"GUARD = {guard}\n" + FITTED + DIFFERENT, workers=workers)

    assert all(values == told[0] for values in told)
    assert {path.name for path in tmp_path.iterdir() if path.name != "s.py"} == {
        *(f"told{index}" for index in range(workers)), "one.weights.h5", "own.keras",
        "two.weights.h5", "first.weights.h5", "others.weights.h5", "of_worker_0.weights.h5",
    }  # fmt: skip


MANAGED = """
checkpoint = tf.train.Checkpoint(model=model)
manager = tf.train.CheckpointManager(checkpoint, "managed", max_to_keep=2)
paths = []
for epoch in range(4):
    model.fit(x, y, batch_size=8, verbose=0)
    if index == WRITER:
        paths.append(manager.save())
        paths.append(tf.train.latest_checkpoint("managed"))
model.evaluate(x, y, batch_size=8, verbose=0)
before = model.get_weights()
model.set_weights([0 * each for each in before])
checkpoint.restore(tf.train.latest_checkpoint("managed"))
assert all(map(np.array_equal, before, model.get_weights()))
tell(paths=paths, latest=manager.latest_checkpoint, kept=manager.checkpoints)
"""


@pytest.mark.parametrize("writer", [0, 1])
def test_a_checkpoint_manager_used_on_one_worker_keeps_its_files_and_state_there(
    run, tmp_path, writer
):
    _, told = run(f"WRITER = {writer}\n" + FITTED + MANAGED)

    names = [f"managed/ckpt-{number}" for number in range(1, 5)]
    assert told[writer] == {
        "paths": [name for name in names for _ in range(2)],
        "latest": names[-1],
        "kept": names[-2:],
    }
    assert told[1 - writer] == {"paths": [], "latest": None, "kept": []}
    assert {path.name for path in (tmp_path / "managed").iterdir()} == {
        "checkpoint", *(f"ckpt-{number}.{end}" for number in (3, 4)
                        for end in ("index", "data-00000-of-00001")),
    }  # fmt: skip


MIXED = """
checkpoint = tf.train.Checkpoint(model=model)
manager = tf.train.CheckpointManager(checkpoint, "managed", max_to_keep=1)
for epoch in range(2):
    if index == 0:
        manager.save()
    model.fit(x, y, batch_size=8, verbose=0)
path = manager.save()
checkpoint.restore(manager.latest_checkpoint).assert_existing_objects_matched()
tell(path=path, latest=manager.latest_checkpoint, weights=weights(model))
"""


def test_a_save_by_all_workers_after_saves_by_one_has_the_same_path_on_all(run, tmp_path):
    """The others have counted fewer saves, but restore the file that exists."""
    _, told = run(FITTED + MIXED)

    assert told[0] == told[1]
    assert told[0]["path"] == told[0]["latest"] == "managed/ckpt-3"
    assert len(list((tmp_path / "managed").iterdir())) == 3


COLLECTIVES = """
strategy = tf.distribute.MultiWorkerMirroredStrategy()  # the job's own
totals = []
def both(): return strategy.reduce("SUM", tf.constant(1.0), axis=None)
reductions = [both, tf.function(both), lambda: strategy.gather(tf.ones([2]), axis=0)]
for number, reduce in enumerate(reductions):
    for kind in "ab":
        if index == WRITER:
            model.save(f"{kind * (number + 1)}.keras")
        totals.append(np.sum(reduce()).item())
tell(totals=totals)
"""


@pytest.mark.parametrize("writer", [0, 1])
def test_one_worker_saves_while_the_others_are_in_a_collective_of_the_script(run, tmp_path, writer):
    _, told = run(f"WRITER = {writer}\n" + FITTED + COLLECTIVES)

    assert told[0] == told[1] == {"totals": [2.0, 2.0, 2.0, 2.0, 4.0, 4.0]}
    assert len(list(tmp_path.glob("*.keras"))) == 6


LEGACY_LOOP = """
import tf_keras
strategy = tf.distribute.get_strategy()
tf_keras.utils.set_random_seed(1)
model = tf_keras.Sequential([tf_keras.layers.Dense(1, input_shape=(3,))])
optimizer, seen = tf_keras.optimizers.SGD(0.1), tf_keras.metrics.Mean()
@tf.function
def train(rows, targets):
    def step(rows, targets):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(rows, training=True) - targets) ** 2)
        optimizer.apply_gradients(
            zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables))
        seen.update_state(loss)
        return loss
    return strategy.run(step, args=(rows, targets))
for number in range(6):
    train(x, y)
    if index == WRITER and number % 2:
        model.save_weights("abcdef"[number] + ".h5")
    if index == WRITER and number == 4:
        tf.train.Checkpoint(model=model, seen=seen).write("checkpoint")
model.save("all.h5")
tell(weights=weights(model), seen=float(seen.result()))
"""


@pytest.mark.parametrize("writer", [0, 1])
def test_one_worker_saves_while_the_others_continue_a_legacy_keras_loop(run, tmp_path, writer):
    pytest.importorskip("tf_keras", reason="legacy Keras is not installed")
    _, told = run(f"WRITER = {writer}\n" + FITTED + LEGACY_LOOP)

    assert told[0] == told[1]
    assert {path.name for path in tmp_path.iterdir()} == {
        "s.py", "told0", "told1", "b.h5", "d.h5", "f.h5", "all.h5",
        "checkpoint.index", "checkpoint.data-00000-of-00001",
    }  # fmt: skip


AWAITED = """
import time
if index == 0:
    model.save("awaited.keras")
while not os.path.exists("awaited.keras"):
    time.sleep(0.05)
model.evaluate(x, y, verbose=0)
tell(weights=weights(model))
"""


def test_a_script_whose_workers_wait_for_a_file_continues_after_the_start_timeout(run):
    result, told = run(FITTED + AWAITED, "--start-timeout", "20")

    assert told[0] == told[1]
    assert result.stderr.count("or after 20 s (--start-timeout)") == 1


LEFT_OUT = """
if index == 0:
    model.predict(x, verbose=0)
model.fit(x, y, batch_size=8, verbose=0)
"""


def test_predicting_on_one_worker_only_ends_with_a_one_sentence_error(run):
    result, _ = run(FITTED + LEFT_OUT, fails=True)

    assert re.search(
        "worker [01] waits in predict, in a metric's result or in another collective of "
        "TensorFlow, which worker [01] has skipped: let all workers call it, or none",
        result.stderr,
    )


LEFT = """
if index == 0:
    model.evaluate(x, y, batch_size=8, verbose=0)
"""


def test_evaluating_on_one_worker_after_the_others_have_ended_is_reported(run):
    result, _ = run(FITTED + LEFT, fails=True)

    last = result.stderr.splitlines()[-1]
    assert re.search(r"PeerLostError: nano-run: worker 1 .*has ended while worker 0 waits", last)


EXPORTED = """
class Export(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if index == 2:
            self.model.export("exported", verbose=False)
model.predict(x, verbose=0)
model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[Export()])
tell(weights=weights(model))
if index == 1:
    model.export("end", verbose=False)
"""


def test_one_of_three_workers_exports_while_the_others_continue_or_have_ended(run, tmp_path):
    _, told = run(FITTED + EXPORTED, workers=3)

    assert told[0] == told[1] == told[2]
    assert (tmp_path / "exported" / "saved_model.pb").exists()
    assert (tmp_path / "end" / "saved_model.pb").exists()
