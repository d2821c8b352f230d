"""Callbacks that act on batches are found, and other callbacks are not."""

from __future__ import annotations

import pytest

from nano_init.keras_patch.steps.batch_callbacks import find_batch_callback

pytestmark = pytest.mark.tensorflow

keras = pytest.importorskip("keras")
c = keras.callbacks


class AtBatchEnd(c.Callback):
    """A callback that overrides a hook by its old name."""

    def on_batch_end(self, batch, logs=None):
        """Do something."""


class AtBatchBegin(c.Callback):
    """A callback that overrides a hook."""

    def on_train_batch_begin(self, batch, logs=None):
        """Do something."""


class OwnCheckpoint(c.ModelCheckpoint):
    """A callback of Keras with an overridden hook."""

    def on_train_batch_end(self, batch, logs=None):
        """Do something."""


class AtTestBatch(c.Callback):
    """A callback that overrides only an evaluation hook."""

    def on_test_batch_end(self, batch, logs=None):
        """Do something."""


@pytest.mark.parametrize(
    "make",
    [
        AtBatchEnd,
        AtBatchBegin,
        lambda: OwnCheckpoint("m.keras"),
        lambda: c.ModelCheckpoint("m.keras", save_freq=10),
        lambda: c.BackupAndRestore("folder", save_freq=10),
        lambda: c.TensorBoard("folder", update_freq="batch"),
        lambda: c.TensorBoard("folder", update_freq=5),
        lambda: c.TensorBoard("folder", profile_batch=2),
        lambda: c.TensorBoard("folder", write_steps_per_second=True),
        lambda: c.LambdaCallback(on_train_batch_end=lambda batch, logs: None),
        c.TerminateOnNaN,
    ],
)
def test_callbacks_that_need_every_batch_are_found(make):
    callback = make()
    assert find_batch_callback([c.History(), [callback]]) is callback
    assert find_batch_callback(c.CallbackList([callback])) is callback


def test_other_callbacks_are_not_found():
    idle = [
        AtTestBatch(),
        c.History(),
        c.ProgbarLogger(),
        c.EarlyStopping(),
        c.ReduceLROnPlateau(),
        c.LearningRateScheduler(lambda epoch: 0.1),
        c.CSVLogger("log.csv"),
        c.ModelCheckpoint("m.keras"),
        c.BackupAndRestore("folder"),
        c.TensorBoard("folder"),
        c.LambdaCallback(on_epoch_end=lambda epoch, logs: None),
    ]
    assert find_batch_callback(idle) is None
    assert find_batch_callback(None) is None
