"""`num_processes` that starts no process: one process, an invalid number, another backend."""

from __future__ import annotations

import sys
import traceback
import warnings
from pathlib import Path

import pytest

import nano_init
from nano_init import nano
from nano_init.errors import UsageError
from nano_init.process_calls.num_processes import starts_processes

PACKAGE = str(Path(nano_init.__file__).parent)


def test_with_one_process_the_function_is_returned_unchanged():
    def train():
        return 3

    assert nano(num_processes=1)(train) is train
    assert nano()(train) is train


@pytest.mark.parametrize("number", [0, -1, 2.0, "2", True, None, 10**6])
def test_an_invalid_number_of_processes_is_reported(number):
    with pytest.raises(UsageError, match=r"num_processes is .*; give a whole number from 1"):
        nano(num_processes=number)


def test_another_bigdl_nano_backend_gets_a_warning_at_the_callers_line():
    with pytest.warns(UserWarning, match="backend='ray' of BigDL-Nano is ignored") as caught:
        assert not starts_processes(1, "ray")
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert starts_processes(2, "multiprocessing")


@pytest.fixture
def failing_fit():
    """Return a function that calls `fit` with a failing callback and returns the frames' files."""
    keras = pytest.importorskip("keras")
    np = pytest.importorskip("numpy")

    class Fail(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            raise ValueError("no luck")

    def fit(**options):
        nano_init.patch_tensorflow()
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        with pytest.raises(ValueError, match="no luck") as caught:
            model.fit(np.ones((4, 2)), np.ones(4), verbose=0, callbacks=[Fail()], **options)
        return [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]

    yield fit
    nano_init.unpatch_tensorflow()


@pytest.mark.tensorflow
@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 keeps one frame")
@pytest.mark.parametrize("options", [{}, {"num_processes": 1}, {"backend": "multiprocessing"}])
def test_a_traceback_from_fit_in_one_process_has_no_frames_of_the_package(failing_fit, options):
    files = failing_fit(**options)

    assert [name for name in files if name.startswith(PACKAGE)] == []
    assert files[-1] == __file__


@pytest.mark.tensorflow
def test_without_traceback_filtering_fit_shows_all_frames(failing_fit):
    keras = pytest.importorskip("keras")
    keras.config.disable_traceback_filtering()
    try:
        files = failing_fit()
    finally:
        keras.config.enable_traceback_filtering()

    assert any("trainer.py" in name for name in files)
    assert any(name.startswith(PACKAGE) for name in files)
